import type { Activity } from '../activity/index.ts'
import type { LimitedFolders, StackMounts } from '../backends/index.ts'
import type { IngestArea, StorePaths, StoreReserve } from '../content/index.ts'
import type { LayerStore } from '../layers/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import type { FolderUsage } from '../transform/index.ts'
import type { Labels } from './labels.ts'
import type { RemoteLayers } from './remote-layer.ts'

export interface SnapshotterOptions {
  readonly activity: Activity
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly layers: LayerStore
  /** The reserve of space for removing things on a full disk. */
  readonly reserve: StoreReserve
  readonly stacks: StackMounts
  readonly limited: LimitedFolders
  readonly ingest: () => IngestArea
  /** Measures the disk usage of a folder. */
  readonly measure: (folder: string) => Promise<FolderUsage>
  /** The ID of this boot. */
  readonly bootId: string
  /** Whether this machine can show layers that are not unpacked. */
  readonly canShow: () => boolean
  /** Waits until everything written to the file system of the store is on the disk. */
  readonly sync: () => Promise<void>
  readonly remote?: RemoteLayers
  /** Report the folder that an active snapshot writes to in a label. Undefined: false. */
  readonly upperdirLabel?: boolean
  /** Return the layers below a snapshot as an EROFS mount that the client makes, for runtimes that make disks of them. Undefined: false. */
  readonly returnsErofs?: boolean
  /** Options appended to those of every overlay mount. */
  readonly mountOptions?: readonly string[]
}

/** Options of a commit. */
export interface SnapshotCommitOptions {
  /** Name of the committed snapshot. */
  readonly name: string
  /** Key of the active one. */
  readonly key: string
  /** Labels of the committed one; none by default. */
  readonly labels?: Labels
  /** Name of a parent for a snapshot that was prepared without one; empty for no parent. */
  readonly rebase?: string
}
