import type { Probe } from '../backends/index.ts'
import type { Platform } from '../image/index.ts'
import type { FileSystemInfo } from '../linux/index.ts'

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
export interface StoreLocation {
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
