import type { Probe, SizeLimitProbe } from '../backends/index.ts'
import type { Platform } from '../image/index.ts'
import type { FileSystemInfo, Rootless } from '../linux/index.ts'

/** Report about this machine. */
export interface HostReport {
  /** Release of the kernel, as of `uname -r`. */
  readonly kernel: string
  /** Platform that images are chosen for. */
  readonly platform: Platform
  /** Version of Node. */
  readonly node: string
  /** Whether this process runs as root. */
  readonly isRoot: boolean
  /** How a user who is not root works; not there for root. */
  readonly rootless?: Rootless
  /** Directory of the store. */
  readonly root: string
  /** The backends, and whether they work on this machine. */
  readonly backends: readonly {
    /** Name of the backend. */
    readonly name: string
    /** Whether it works, and if not, why. */
    readonly probe: Probe
    /** Whether it is the default backend. */
    readonly isDefault: boolean
  }[]
  /** How a limit of the size of a writable layer is kept here. */
  readonly sizeLimits: SizeLimitProbe
  /** Whether layers can be pulled lazily here. */
  readonly lazy: Probe
  /** Whether an OCI runtime for `run` is installed; the note is its path. */
  readonly runtime: Probe
  /** The library that decompresses gzip: `isal` where Intel's ISA-L is installed, else `zlib`. */
  readonly inflate: 'isal' | 'zlib'
}

/** Report about this machine and the location of the store. */
export interface Examination extends HostReport {
  /** Location of the store. */
  readonly store: StoreLocation
}

/** Location of an existing or a future store. */
export interface StoreLocation {
  /** The store's folder, or the nearest existing folder above it. */
  readonly folder: string
  /** Whether the store exists. */
  readonly exists: boolean
  /** The file system of that directory. */
  readonly fileSystem: FileSystemInfo
  /** Requirements of a store that are not met. */
  readonly problems: readonly string[]
  /** Notes about unexpected behaviour. */
  readonly notes: readonly string[]
}
