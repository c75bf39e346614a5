import type { Probe } from '../backends/index.ts'
import type { Digest, Platform } from '../image/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import type { ContainerInfo, ProvisionedRootfs } from '../provisioner/index.ts'

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
  }
}

/** An image of the store with its names. */
export interface ListedImage extends ImageRecord {
  readonly names: readonly string[]
}

/** What `inspect` found. */
export type Inspection =
  | {
      readonly kind: 'image'
      readonly image: ListedImage
      readonly manifest: unknown
      readonly config: unknown
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
