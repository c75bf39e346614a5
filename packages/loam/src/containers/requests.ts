import type { CommandInfo, ConfinementOptions } from '../runtime/index.ts'
import type { ImageRequest } from '../sources/index.ts'
import type { FetchOptions, ImageOptions } from '../images/index.ts'

/** How a root filesystem is made of an image. */
export interface ProvisionImageOptions extends ImageOptions {
  /** Id of the container: `web`, or `web/sidecar` for one that is nested. Undefined: a random one. A container may have several root filesystems. */
  readonly id?: string | undefined
  /** Name of the backend. Undefined: the configured one, or the best that works. */
  readonly backend?: string | undefined
  /** Mount the root filesystem read-only. Undefined: writable, where the backend can. */
  readonly isReadOnly?: boolean | undefined
  /** Ask the registry what the name stands for now, instead of taking what the store has. */
  readonly refresh?: boolean | undefined
}

/** How a container is destroyed. */
export interface DestroyOptions {
  /** Ends waiting for others who use the container. What was removed until then stays removed; call it again for the rest. */
  readonly signal?: AbortSignal | undefined
}

/** What a recovery keeps, and how it may fetch. */
export interface RecoverOptions extends FetchOptions {
  /** Containers to keep; all others are destroyed. Undefined: every one that is complete. */
  readonly known?: readonly string[] | undefined
}

/** An image that is shown in a container besides its root. */
export interface ImageVolume {
  /** Image to show, by name or request. */
  readonly image: string | ImageRequest
  /** In the container: absolute, or below its sandbox folder. */
  readonly target: string
  /** Show it read-only. Undefined: false. */
  readonly isReadOnly?: boolean | undefined
}

/** A file or folder of this machine that is shown in a container. */
export interface HostMount {
  /** Absolute path on this machine. */
  readonly hostPath: string
  /** In the container: absolute, or below its sandbox folder. */
  readonly target: string
  /** Show it read-only, with all that is mounted beneath it. Undefined: false. */
  readonly isReadOnly?: boolean | undefined
}

/** Options of image volumes. */
export interface VolumeOptions extends Omit<ProvisionImageOptions, 'id' | 'isReadOnly'> {
  /** Id of the container that they are for. */
  readonly id: string
  /** Folder of this machine that relative targets are in, for a container without a root filesystem. */
  readonly sandbox?: string | undefined
}

/** How a process is run in a new root filesystem. */
export interface RunImageOptions extends ProvisionImageOptions, ConfinementOptions {
  /** Empty: what the image says. */
  readonly command?: readonly string[] | undefined
  /** A command as a framework of Mesos asks for it, instead of `command`, `entrypoint` and `shell`; `env` and `user` go before its own. */
  readonly commandInfo?: CommandInfo | undefined
  /** Program instead of the image's entrypoint; the empty text takes the entrypoint away. */
  readonly entrypoint?: string | undefined
  /** A line for /bin/sh -c, instead of entrypoint and command. */
  readonly shell?: string | undefined
  /** `KEY=VALUE`, or `KEY` for the value in the environment that the store was opened with. */
  readonly env?: readonly string[] | undefined
  /** Directory that the process starts in. Undefined: the image's. */
  readonly workingDir?: string | undefined
  /** `name`, `uid`, `name:group` or `uid:gid`. Undefined: the image's. */
  readonly user?: string | undefined
  /** As `--mount` has them. */
  readonly mounts?: readonly string[] | undefined
  /** Images to show besides those of `mounts`. */
  readonly volumes?: readonly ImageVolume[] | undefined
  /** Paths of this machine to show besides those of `mounts`. */
  readonly hostMounts?: readonly HostMount[] | undefined
  /** Undefined: the container's id. */
  readonly hostname?: string | undefined
  /** Keep the root filesystem afterwards. */
  readonly keep?: boolean | undefined
  /** Give the process a terminal; the standard streams must be one. */
  readonly terminal?: boolean | undefined
  /** Called when the container's id is known. */
  readonly onStart?: ((id: string) => void) | undefined
}
