import type { Activity } from '../activity/index.ts'
import type { BlobStore, IngestArea, RetainedBlobs, StorePaths, StoreReserve } from '../content/index.ts'
import type { Configuration } from '../config/index.ts'
import type { DiffId } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import type { ImageType, MetadataStore } from '../metadata/index.ts'
import type { Provisioner } from '../provisioner/index.ts'
import type {
  CompareRequest,
  ReportRequest,
  TreeComparison,
  TreeContents,
  TreeReport,
} from '../transform/index.ts'
import type { ImageStore } from '../stores/index.ts'
import type { ImageSessions } from './image-sessions.ts'
import type { LayerPrefetch } from './layer-prefetch.ts'
import type { SourceOpener } from './source-opener.ts'

/** Lists one directory of layers, base first, in a thread. */
export type ReadContents = (
  layers: readonly DiffId[],
  directory: { readonly path: string; readonly layer: number | undefined },
  signal: AbortSignal | undefined,
) => Promise<TreeContents>

/** Reads trees of layers in a thread. The caller holds the leases. */
export interface TreeReader {
  readonly report: (
    request: Omit<ReportRequest, 'limits'>,
    signal: AbortSignal | undefined,
  ) => Promise<TreeReport>
  readonly compare: (
    request: Omit<CompareRequest, 'limits'>,
    signal: AbortSignal | undefined,
  ) => Promise<TreeComparison>
}

/** The services of one open store that operations on images use. Each operation names those that it needs. */
export interface ImageServices {
  readonly configuration: Configuration
  /** Observers of operations. */
  readonly activity: Activity
  /** Directory that relative paths start from; '' for that of this process. */
  readonly cwd: string
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  /** Room for removals on a full disk. */
  readonly reserve: StoreReserve
  readonly blobs: BlobStore
  readonly layers: LayerStore
  /** Blobs of layers as their registry has them. */
  readonly retained: RetainedBlobs
  readonly stores: Readonly<Record<ImageType, ImageStore>>
  readonly provisioner: Provisioner
  readonly sources: SourceOpener
  /** Sources of images whose layers clients request one after the other. */
  readonly sessions: ImageSessions
  readonly prefetch: LayerPrefetch
  /** Whether a signature policy is in force. */
  readonly hasPolicy: boolean
  /** The caller holds leases on the layers. */
  readonly readContents: ReadContents
  readonly trees: TreeReader
  /** A directory for unfinished work, created when it is first needed. */
  readonly ingest: () => IngestArea
}
