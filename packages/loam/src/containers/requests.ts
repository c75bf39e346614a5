import type { RootedPath } from '../linux/index.ts'
import type { CommandInfo, ConfinementOptions, TerminalSize } from '../runtime/index.ts'
import type { ImageRequest } from '../sources/index.ts'
import type { FetchOptions, ImageOptions, LazyOptions } from '../images/index.ts'

/** The IDs of a user namespace: `CONTAINER:HOST:LENGTH[,…]` for users, and for groups. Ranges must not overlap, and 0 must have an ID of this machine. */
export interface UserNamespace {
  /** Users. */
  readonly uids: string
  /** Groups. */
  readonly gids: string
}

/** How to create a root filesystem from an image. */
export interface ProvisionImageOptions extends ImageOptions, LazyOptions {
  /** Id of the container: `web`, or `web/sidecar` for a nested container. Undefined: a random ID. A container may have several root filesystems. */
  readonly id?: string | undefined
  /** Name of the backend. Undefined: the configured one, or the best that works. */
  readonly backend?: string | undefined
  /** Mount the root filesystem read-only. Undefined: writable, if the backend supports it. */
  readonly isReadOnly?: boolean | undefined
  /**
   * The bytes that may be written to the root filesystem: a program that writes more gets ENOSPC (EDQUOT with quotas of btrfs and ext4), and other containers
   * do not notice. At least 2 MiB. Undefined: as many as the disk has.
   */
  readonly sizeBytes?: number | undefined
  /** User namespace of the container: its files have the IDs of this machine that the mapping says. Undefined: none. */
  readonly userNamespace?: UserNamespace | undefined
  /** Ask the registry what the name refers to now, instead of using the image in the store. */
  readonly refresh?: boolean | undefined
}

/** Options of destroying a container. */
export interface DestroyOptions {
  /** Stops waiting for other users of the container. Parts removed until then stay removed; call it again for the rest. */
  readonly signal?: AbortSignal | undefined
}

/** Which containers a recovery keeps, and how it may fetch. */
export interface RecoverOptions extends FetchOptions {
  /** Containers to keep; all others are destroyed. Undefined: keep every complete container. */
  readonly known?: readonly string[] | undefined
}

/** An image that is mounted in a container. */
export interface ImageVolume {
  /** Image to mount, by name or request. */
  readonly image: string | ImageRequest
  /** Target in the container: absolute, or below its sandbox folder. */
  readonly target: string
  /** Mount it read-only. Undefined: false. */
  readonly isReadOnly?: boolean | undefined
  /** The bytes that may be written to it, as for a root filesystem. Undefined: as many as the disk has. */
  readonly sizeBytes?: number | undefined
}

/** An image that is mounted by Loam itself, and not by the runtime of a container. */
export interface MountedVolume extends ImageVolume {
  /** Directory of the image to mount, relative to its root; symlinks are resolved inside the image. Undefined: all of it. */
  readonly subPath?: string | undefined
}

/** A file or folder of this machine that is mounted in a container. */
export interface HostMount {
  /** Absolute path on this machine. */
  readonly hostPath: string
  /** Target in the container: absolute, or below its sandbox folder. */
  readonly target: string
  /** Mount it read-only, with all mounts beneath it. Undefined: false. */
  readonly isReadOnly?: boolean | undefined
}

/** Options of image volumes. */
export interface VolumeOptions
  extends Omit<ProvisionImageOptions, 'id' | 'isReadOnly' | 'sizeBytes' | 'lazyIndex'> {
  /** ID of the container that gets the volumes. */
  readonly id: string
  /** Folder of this machine for relative targets, for a container without a root filesystem. */
  readonly sandbox?: string | undefined
}

/** A program with its arguments and its whole environment. */
export interface ProgramStart {
  /** Path of the program. */
  readonly file: string
  /** Arguments, without the program's name. */
  readonly args: readonly string[]
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>
}

/** The container that a runtime is started for. */
export interface StartedContainer {
  /** Its ID. */
  readonly id: string
  /** Whether it is to stay when its process has ended. */
  readonly keep: boolean
  /** File in which the runtime writes the number of the process when it has started. */
  readonly pidFile: string
}

/** The process that starts the OCI runtime in place of this one, and whose terminal, signals and process group the runtime gets. */
export interface RunStarter {
  /** Capabilities in its bounding set, which are those that containers may have. */
  readonly capabilities: readonly string[]
  /**
   * Starts the program, waits for its end and returns its exit status, or 128 and the signal's number if a signal ended it. Undefined: the starter
   * was killed, and its program may still be running; the container is left as it is.
   */
  readonly start: (program: ProgramStart, container: StartedContainer) => Promise<number | undefined>
}

/** How to run a further process in a running container. */
export interface ExecOptions {
  /** `KEY=VALUE`, or `KEY` for the value in the environment that the store was opened with, in addition to those of the container's process. */
  readonly env?: readonly string[] | undefined
  /** Working directory. Undefined: that of the container's process. */
  readonly workingDir?: string | undefined
  /** `name`, `uid`, `name:group` or `uid:gid`. Undefined: that of the container's process. */
  readonly user?: string | undefined
  /** Give the process a terminal; the standard streams must be one. */
  readonly terminal?: boolean | undefined
  /** Size of the terminal when the process starts. Undefined: that of this process's terminal, unless a `starter` has another. */
  readonly terminalSize?: TerminalSize | undefined
  /** Run the process in the background: `exec` returns 0 when it has started, and its output is discarded. */
  readonly detach?: boolean | undefined
  /** Called right before the process is started. */
  readonly onStart?: ((id: string) => void) | undefined
  /** Starter of the OCI runtime. Undefined: this process. */
  readonly starter?: RunStarter | undefined
}

/** How to stop a container. */
export interface StopOptions {
  /** How long to wait until the process is killed, in milliseconds. Undefined: 10,000. */
  readonly timeoutMs?: number | undefined
  /** Stops waiting; the process may still end. */
  readonly signal?: AbortSignal | undefined
}

/** Which part of the output of a detached process to read. */
export interface LogOptions {
  /** Only the last lines. Undefined: all. */
  readonly tail?: number | undefined
  /** Wait for more output until the process has ended. */
  readonly follow?: boolean | undefined
  /** Ends the output. */
  readonly signal?: AbortSignal | undefined
}

/** How to copy files between a container and this machine. */
export interface CopyOptions {
  /**
   * Keep owners, extended attributes and the bits of setuid programs. Undefined: what is copied into a container belongs to its root, and what is copied
   * out of it to this process's user.
   */
  readonly keepsOwners?: boolean | undefined
  /** Copy what a symlink at the end of the source's path refers to. Undefined: the symlink. */
  readonly followsLink?: boolean | undefined
  /** Cancels the copy; what was copied stays. */
  readonly signal?: AbortSignal | undefined
}

/** How to write files of a container as a tar. */
export interface PackFilesOptions {
  /** Pack what a symlink at the end of the path refers to. Undefined: the symlink. */
  readonly followsLink?: boolean | undefined
  /** Replace an existing file. */
  readonly force?: boolean | undefined
  /** Cancels the call. */
  readonly signal?: AbortSignal | undefined
}

/** How to unpack a tar into a container. */
export interface UnpackFilesOptions {
  /** Cancels the call; what was unpacked stays. */
  readonly signal?: AbortSignal | undefined
}

/** How to run a process in a new root filesystem. */
export interface RunImageOptions extends ProvisionImageOptions, ConfinementOptions {
  /** Command and arguments. Empty: the image's. */
  readonly command?: readonly string[] | undefined
  /** A command as a Mesos framework sends it, instead of `command`, `entrypoint` and `shell`; `env` and `user` take precedence over its own. */
  readonly commandInfo?: CommandInfo | undefined
  /** Program, or a JSON list of words, instead of the image's entrypoint; an empty text removes the entrypoint. */
  readonly entrypoint?: string | undefined
  /** A line for /bin/sh -c, instead of entrypoint and command. */
  readonly shell?: string | undefined
  /** `KEY=VALUE`, or `KEY` for the value in the environment that the store was opened with. */
  readonly env?: readonly string[] | undefined
  /** Working directory of the process. Undefined: the image's. */
  readonly workingDir?: string | undefined
  /** `name`, `uid`, `name:group` or `uid:gid`. Undefined: the image's. */
  readonly user?: string | undefined
  /** Mounts in the syntax of `--mount`. */
  readonly mounts?: readonly string[] | undefined
  /** File systems in memory: `PATH`, or `PATH:size=64m,mode=1777`, in the syntax of `--tmpfs`. */
  readonly tmpfs?: readonly string[] | undefined
  /** Images to mount in addition to `mounts`. */
  readonly volumes?: readonly ImageVolume[] | undefined
  /** Paths of this machine to mount in addition to `mounts`. */
  readonly hostMounts?: readonly HostMount[] | undefined
  /** Host name. Undefined: the container's ID. */
  readonly hostname?: string | undefined
  /**
   * Run the process in the background: `run` returns 0 when it has started, and the container stays when it has ended, until it is destroyed or
   * `remove` says so. Its output is kept for `logs`.
   */
  readonly detach?: boolean | undefined
  /** Remove a detached container when its process has ended. */
  readonly remove?: boolean | undefined
  /** Keep the standard input of a detached process open, without data. Undefined: it is empty. */
  readonly keepsInput?: boolean | undefined
  /** Keep the root filesystem afterwards. */
  readonly keep?: boolean | undefined
  /** Give the process a terminal: the standard streams must be one, except for a detached process, which gets a terminal of its own. */
  readonly terminal?: boolean | undefined
  /** Size of the terminal when the process starts. Undefined: that of this process's terminal, unless a `starter` has another. */
  readonly terminalSize?: TerminalSize | undefined
  /** Called when the container's ID is known. */
  readonly onStart?: ((id: string) => void) | undefined
  /** Starter of the OCI runtime. Undefined: this process. */
  readonly starter?: RunStarter | undefined
}

/** How `Containers` itself provisions. */
export interface OwnProvisionOptions extends ProvisionImageOptions {
  /** Where it is mounted as a volume. */
  readonly volumePath?: RootedPath
  /** Directory of the image that is mounted there. */
  readonly volumeSubPath?: string
  /** Whether only processes in Loam's user namespace use the root filesystem. */
  readonly isUsedHere?: boolean
}
