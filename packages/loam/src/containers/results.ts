import type { ProvisionedRootfs } from '../provisioner/index.ts'
import type { HostMount } from './requests.ts'
import type { PulledImage } from '../images/index.ts'

/** A root filesystem with the image that it was made of. */
export interface ProvisionedImage extends ProvisionedRootfs {
  /** The image that it was made of. */
  readonly image: PulledImage & {
    /** The manifest as the registry has it: JSON text. */
    readonly manifest: string
    /** The config as the registry has it: JSON text. */
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
  /** The root filesystem that is shown. */
  readonly rootfs: ProvisionedImage
  /** Where it belongs in the container; absolute. */
  readonly containerPath: string
  /** Whether it is to be mounted read-only. */
  readonly isReadOnly: boolean
}

/** A container of Mesos with what is shown in it. */
export interface ProvisionedContainer {
  /** The container's own root filesystem. */
  readonly rootfs: ProvisionedImage
  /** Mounted in the root filesystem. */
  readonly volumes: readonly ProvisionedVolume[]
  /** For the container's runtime to mount. */
  readonly hostMounts: readonly HostMount[]
}
