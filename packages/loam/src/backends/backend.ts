import type { IngestArea, StorePaths } from '../content/index.ts'
import type { ChainId, DiffId } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import type { MountEntry } from '../linux/index.ts'
import type { CompleteLayer } from '../metadata/index.ts'

/** Names of the backends there are. */
export type BackendName = 'erofs' | 'overlay' | 'copy' | 'bind'

/** Whether something can be done here, and if not, why, in words for an operator. */
export type Probe =
  | {
      /** It works. */
      readonly isSupported: true
      /** What an operator should know besides. */
      readonly note?: string
    }
  | {
      /** It does not work. */
      readonly isSupported: false
      /** Why not, as a sentence. */
      readonly reason: string
    }

/** A stack of layers, base first; the caller holds leases on them. */
export interface LayerStack {
  /** Undefined when there are no layers. */
  readonly chainId: ChainId | undefined
  readonly layers: readonly CompleteLayer[]
}

export interface ProvisionRequest {
  readonly stack: LayerStack
  /** Where the root filesystem is to be; does not exist, its parent does. */
  readonly rootfsPath: string
  /** A folder for what belongs to this root filesystem alone; does not exist, its parent does. */
  readonly scratchPath: string
  readonly isReadOnly: boolean
  readonly signal?: AbortSignal | undefined
}

export interface ProvisionResult {
  /** Folders that a container's writes go to, for disk accounting. */
  readonly ephemeralVolumes: readonly string[]
  readonly isReadOnly: boolean
}

/** Where a root filesystem is, or may be. */
export interface RootfsLocation {
  readonly rootfsPath: string
  readonly scratchPath: string
}

/** What is known of a root filesystem that was made. */
export interface MadeRootfs extends RootfsLocation {
  readonly chainId: ChainId | undefined
  /** Base first. */
  readonly layers: readonly DiffId[]
  readonly isReadOnly: boolean
}

/** The table of mounts, where it was read already. */
export type Mounts = readonly MountEntry[]

/** The mounts that only root filesystems of a backend share. */
export interface SharedMountOwner {
  /** Takes away what is there for a stack of layers, unless a root filesystem needs it. Called after one was removed. */
  readonly release: (chainId: ChainId) => void
  /** Takes away all that no root filesystem needs, and returns the paths. */
  readonly sweep: () => string[]
}

/**
 * A way to make root filesystems out of layers. Every implementation passes `backendConformance` of loamfs/testing.
 *
 * A root filesystem's life: `probe` and `accepts` say whether it can be had; `provision` makes it; after a reboot
 * `restore` mounts it again with what was written to it; `destroy` removes it, from any state that a crash at any
 * point of the others can leave, and again without an error.
 */
export interface Backend {
  readonly name: BackendName
  /** Whether containers may write to what it makes. */
  readonly isWritable: boolean
  /** Whether it works best with layers' overlay folders, so that a pull makes them on the way. */
  readonly needsUnpacked: boolean
  /** What its root filesystems share, if they do. */
  readonly shared?: SharedMountOwner
  /** Returns whether this machine and store support the backend; tries it if that is the only way to know. */
  readonly probe: () => Probe
  /** Returns whether the backend supports this image. */
  readonly accepts: (stack: LayerStack) => Probe
  /** Creates a root filesystem. On failure something may be left: the caller calls `destroy`. @throws BACKEND_UNSUPPORTED and the errors of layers */
  readonly provision: (request: ProvisionRequest) => Promise<ProvisionResult>
  /** Returns whether a root filesystem is in its place: made by this backend, of these layers, and shown there now. */
  readonly isStanding: (rootfs: MadeRootfs, mounts?: Mounts) => boolean
  /**
   * Remounts a root filesystem after a reboot or an unmount by someone else; nothing is mounted at its path. @throws ROOTFS_UNMOUNTED if it cannot be
   * restored
   */
  readonly restore: (request: ProvisionRequest) => Promise<void>
  /** Unmounts and removes a root filesystem. Returns false when there was nothing. */
  readonly destroy: (location: RootfsLocation) => Promise<boolean>
}

/** What every backend works with. */
export interface BackendOptions {
  readonly paths: StorePaths
  readonly layers: LayerStore
  readonly ingest: () => IngestArea
}
