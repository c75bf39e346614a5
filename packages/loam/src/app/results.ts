import type { Probe } from '../backends/index.ts'
import type { Sweep } from '../content/index.ts'
import type { DiffId, Digest, Platform } from '../image/index.ts'
import type { FileSystemInfo } from '../linux/index.ts'
import type { DecisionRecord, ImageRecord } from '../metadata/index.ts'
import type { ContainerInfo, ProvisionedRootfs } from '../provisioner/index.ts'
import type { PruneResult } from '../stores/index.ts'
import type { HostMount } from './requests.ts'
import type { LeftOutXattrs } from '../tree/index.ts'

/** An image that is in the store. */
export interface PulledImage {
  /** What was asked for, normalised. */
  readonly name: string
  /** What the name stands for: digest of the index when there is one, else of the manifest. */
  readonly digest: Digest
  readonly image: ImageRecord
}

/** A root filesystem with the image that it was made of. */
export interface ProvisionedImage extends ProvisionedRootfs {
  readonly image: PulledImage & {
    /** The manifest and the config as the registry has them: JSON text. */
    readonly manifest: string
    readonly config: string
    /** File of the config in the store; there for as long as the image is. */
    readonly configPath: string
    /** A Docker or OCI image's config, which has the form of Docker's v1 manifest; undefined for Appc. */
    readonly dockerManifest: unknown
    /** An Appc image's own manifest; undefined for the others. */
    readonly appcManifest: unknown
  }
}

/** An image volume of a container, ready to be mounted. */
export interface ProvisionedVolume {
  readonly rootfs: ProvisionedImage
  /** Where it belongs in the container; absolute. */
  readonly containerPath: string
  readonly isReadOnly: boolean
}

/** A container of Mesos with what is shown in it. */
export interface ProvisionedContainer {
  readonly rootfs: ProvisionedImage
  /** Mounted in the root filesystem. */
  readonly volumes: readonly ProvisionedVolume[]
  /** For the container's runtime to mount. */
  readonly hostMounts: readonly HostMount[]
}

/** What a prune did, or would. */
export interface PruneReport extends PruneResult {
  /** What could not be removed, with the reason; it is tried again at the next prune or recovery. */
  readonly failed: Sweep['failed']
}

/** What a collection did, or would. */
export interface CollectionReport extends PruneResult {
  /** Why something had to go; empty when nothing had to. */
  readonly reasons: readonly string[]
  /** Bytes that were to be freed. */
  readonly wantedBytes: number
  /** Bytes of the layers that went, or would go. */
  readonly freedBytes: number
}

/** An image of the store with its names. */
export interface ListedImage extends ImageRecord {
  readonly names: readonly string[]
  /** Why its manifest or config cannot be read; undefined for a sound image. */
  readonly damage: string | undefined
}

/** What `inspect` found. */
export type Inspection =
  | {
      readonly kind: 'image'
      readonly image: ListedImage
      readonly manifest: unknown
      readonly config: unknown
      /** By which rules of the signature policy it was let in; empty where none was in force. */
      readonly decisions: readonly DecisionRecord[]
      /** Layers whose files do not get all of their xattrs. */
      readonly leftOutXattrs?: readonly ({ readonly diffId: DiffId } & LeftOutXattrs)[]
      /** Of an Appc image, its own. */
      readonly appcManifest?: unknown
    }
  | { readonly kind: 'container'; readonly container: ContainerInfo }

/** What this machine can do. */
export interface HostReport {
  readonly kernel: string
  readonly platform: Platform
  readonly node: string
  readonly isRoot: boolean
  readonly root: string
  readonly backends: readonly {
    readonly name: string
    readonly probe: Probe
    readonly isDefault: boolean
  }[]
  readonly runtime: Probe
  /** What inflates gzip: `isal` where Intel's ISA-L is installed, else `zlib`. */
  readonly inflate: 'isal' | 'zlib'
}

/** Where a store is or would be. */
export interface PlaceReport {
  /** The store's folder, or the nearest above it that is there. */
  readonly folder: string
  /** Whether the store is there. */
  readonly exists: boolean
  readonly fileSystem: FileSystemInfo
  /** What does not work that a store needs. */
  readonly problems: readonly string[]
  /** What works otherwise than one may expect. */
  readonly notes: readonly string[]
}
