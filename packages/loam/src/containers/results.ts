import type { ProvisionedRootfs } from '../provisioner/index.ts'
import type { HostMount } from './requests.ts'
import type { PulledImage } from '../images/index.ts'

/** A root filesystem with its image. */
export interface ProvisionedImage extends ProvisionedRootfs {
  /** The image that it was created from. */
  readonly image: PulledImage & {
    /** The manifest as in the registry: JSON text. */
    readonly manifest: string
    /** The config as in the registry: JSON text. */
    readonly config: string
    /** File of the config in the store; it exists as long as the image. */
    readonly configPath: string
    /** A Docker or OCI image's config, which has the format of Docker's v1 manifest; undefined for Appc. */
    readonly dockerManifest: unknown
    /** An Appc image's own manifest; undefined for other images. */
    readonly appcManifest: unknown
  }
}

/** What was not copied. */
export interface CopyReport {
  /** One line for each file that was left out, for a person; at most 100. */
  readonly leftOut: readonly string[]
}

/** An image volume of a container, ready to be mounted. */
export interface ProvisionedVolume {
  /** The root filesystem of the volume. */
  readonly rootfs: ProvisionedImage
  /** Target in the container; absolute. */
  readonly containerPath: string
  /** Whether to mount it read-only. */
  readonly isReadOnly: boolean
}

/** A container of Mesos with its volumes. */
export interface ProvisionedContainer {
  /** The container's own root filesystem. */
  readonly rootfs: ProvisionedImage
  /** Image volumes, mounted in the root filesystem. */
  readonly volumes: readonly ProvisionedVolume[]
  /** Paths of this machine that the container's runtime must mount. */
  readonly hostMounts: readonly HostMount[]
}
