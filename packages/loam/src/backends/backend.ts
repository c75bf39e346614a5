import type { IngestArea, StorePaths } from '../content/index.ts'
import type { ChainId, DiffId } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import type { IdMapping, MountsById } from '../linux/index.ts'
import type { LayerRecord } from '../metadata/index.ts'
import type { LimitedFolders } from './limited-folders.ts'

/** Names of the backends. */
export type BackendName = 'erofs' | 'overlay' | 'copy' | 'bind'

/** Whether an operation is possible on this machine, and if not, why, as a sentence for an operator. */
export type Probe =
  | {
      /** It works. */
      readonly isSupported: true
      /** A note for the operator. */
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
  /** Undefined if there are no layers. */
  readonly chainId: ChainId | undefined
  readonly layers: readonly LayerRecord[]
}

export interface ProvisionRequest {
  readonly stack: LayerStack
  /** Path of the root filesystem; it does not exist, and its parent does. */
  readonly rootfsPath: string
  /** A folder for files of this root filesystem alone; it does not exist, and its parent does. */
  readonly scratchPath: string
  readonly isReadOnly: boolean
  /** The bytes that may be written to it. Undefined: as many as the disk has. */
  readonly sizeBytes?: number | undefined
  /** The user namespace of its container. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ProvisionResult {
  /** Directories that receive a container's writes, for disk accounting. */
  readonly ephemeralVolumes: readonly string[]
  readonly isReadOnly: boolean
}

/** The paths of a root filesystem that exists or may exist. */
export interface RootfsLocation {
  readonly rootfsPath: string
  readonly scratchPath: string
}

/** The record of a root filesystem that was created. */
export interface MadeRootfs extends RootfsLocation {
  readonly chainId: ChainId | undefined
  /** Base first. */
  readonly layers: readonly DiffId[]
  readonly isReadOnly: boolean
  /** The bytes that may be written to it. Undefined: as many as the disk has. */
  readonly sizeBytes?: number | undefined
}

/** The table of mounts, if the caller has read it. */
export type Mounts = MountsById

/** The mounts that root filesystems of a backend share. */
export interface SharedMountOwner {
  /** Unmounts and removes the shared mounts of a stack of layers, unless a root filesystem needs them. Called after a root filesystem was removed. */
  readonly release: (chainId: ChainId, idMapping?: IdMapping) => void
  /** Unmounts and removes all mounts that no root filesystem needs, and returns their paths. */
  readonly sweep: () => string[]
}

/**
 * A method to create root filesystems from layers. Every implementation passes `backendConformance` of loamfs/testing.
 *
 * The life of a root filesystem: `probe` and `accepts` return whether it can be created; `provision` creates it; after a reboot
 * `restore` remounts it with the data written to it; `destroy` removes it, from any state that a crash at any
 * point of the others can leave, and succeeds if it is called again.
 */
export interface Backend {
  readonly name: BackendName
  /** Whether containers may write to its root filesystems. */
  readonly isWritable: boolean
  /** Whether it can map the IDs of files for a user namespace. */
  readonly mapsIds: boolean
  /** Whether it can limit what is written to its root filesystems. */
  readonly limitsSize: boolean
  /** Whether it works best with layers' overlay folders, so that a pull builds them in the same pass. */
  readonly needsUnpacked: boolean
  /** Whether it can show layers whose data is not all here. For other backends, the caller completes them first. */
  readonly showsPartial: boolean
  /** The mounts that its root filesystems share, if they do. */
  readonly shared?: SharedMountOwner
  /** Returns whether this machine and store support the backend; tries it if that is the only way to know. */
  readonly probe: () => Probe
  /** Returns whether the backend supports this image. */
  readonly accepts: (stack: LayerStack) => Probe
  /** Creates a root filesystem. On failure parts of it may be left: the caller calls `destroy`. @throws BACKEND_UNSUPPORTED and the errors of layers */
  readonly provision: (request: ProvisionRequest) => Promise<ProvisionResult>
  /** Returns whether a root filesystem is complete: created by this backend from these layers, and mounted now. */
  readonly isStanding: (rootfs: MadeRootfs, mounts?: Mounts) => boolean
  /**
   * Remounts a root filesystem after a reboot or an unmount by someone else; nothing is mounted at its path. @throws ROOTFS_UNMOUNTED if it cannot be
   * restored
   */
  readonly restore: (request: ProvisionRequest) => Promise<void>
  /** Unmounts and removes a root filesystem. Returns false if it did not exist. */
  readonly destroy: (location: RootfsLocation) => Promise<boolean>
}

/** The services that every backend uses. */
export interface BackendOptions {
  readonly paths: StorePaths
  readonly layers: LayerStore
  readonly ingest: () => IngestArea
  readonly limited: LimitedFolders
}
