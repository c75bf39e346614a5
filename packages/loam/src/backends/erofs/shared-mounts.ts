import { existsSync, readdirSync, realpathSync, statfsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { leaseOrMake, lockPath, type StorePaths } from '../../content/index.ts'
import { isErrno } from '../../errors/index.ts'
import { type ChainId, parseChainId } from '../../image/index.ts'
import { FileLock, createDirectories, unmountAll } from '../../linux/index.ts'
import { releaseUnused, removeMountPoint } from '../mount-point.ts'
import { showsErofs } from '../standing.ts'

export interface SharedMountsOptions {
  readonly paths: StorePaths
  /** A folder for mount points, absolute, without symlinks; created when it is needed. */
  readonly stateFolder: string
  /** Returns whether a root filesystem or a snapshot needs the mount of a stack. */
  readonly isUsed: (chainId: ChainId) => boolean
}

/** How a stack is mounted. */
export interface StackMount {
  /** Returns whether a mount of the stack shows what one that is made now would show. */
  readonly isCurrent: () => boolean
  /** Makes the image of the stack, and returns what mounts it: a client that has the path of an outdated mount sees no empty directory meanwhile. */
  readonly prepare: () => Promise<(target: string) => void>
}

/**
 * The mounts of merged images, one for each stack of layers, which all root filesystems of an image share. The database knows
 * which of them are needed: a root filesystem's row exists before it uses a mount, and until it has released it.
 */
export class SharedMounts {
  readonly #paths: StorePaths
  readonly #state: string
  readonly #isUsed: (chainId: ChainId) => boolean
  #realState: string | undefined

  constructor({ paths, stateFolder, isUsed }: SharedMountsOptions) {
    this.#paths = paths
    this.#state = stateFolder
    this.#isUsed = isUsed
  }

  /** Without symlinks, as in the mount table. */
  get #folder(): string {
    this.#realState ??= existsSync(this.#state) ? realpathSync(this.#state) : undefined
    return join(this.#realState ?? this.#state, 'images')
  }

  /**
   * Ensures that a stack is mounted, and returns the path, with a lease that keeps it mounted until released. A mount that is not
   * `isCurrent` any more is detached: root filesystems that use it keep it.
   */
  async lease(
    chainId: ChainId,
    stack: StackMount,
    signal: AbortSignal | undefined,
  ): Promise<{ path: string; lease: FileLock }> {
    createDirectories(this.#state)
    const path = this.pathOf(chainId)
    const make = async () => {
      const mount = await stack.prepare()
      createDirectories(path)
      // A foreign mount, a remaining mount of Loam, or an outdated one, which the root filesystems that use it keep.
      unmountAll(path)
      mount(path)
    }
    const lease = await leaseOrMake(this.#lockOf(chainId), () => isMounted(path) && stack.isCurrent(), make, {
      signal,
    })
    return { path, lease }
  }

  /** Unmounts a mount at the path of a stack that is not its image. The holder of a lease on the stack mounts it itself. */
  clear(chainId: ChainId, image: string): void {
    using lock = FileLock.tryAcquire(this.#lockOf(chainId))
    const path = this.pathOf(chainId)
    if (lock !== undefined && !showsErofs(path, image)) unmountAll(path)
  }

  /** Returns whether a stack's image is mounted at its path. */
  isShown(chainId: ChainId, image: string): boolean {
    return showsErofs(this.pathOf(chainId), image)
  }

  release(chainId: ChainId): void {
    const isUsed = () => this.#isUsed(chainId)
    releaseUnused(this.#lockOf(chainId), isUsed, () => {
      removeMountPoint(this.pathOf(chainId))
    })
  }

  sweep(): string[] {
    const folder = this.#folder
    if (!existsSync(folder)) return []
    const unused = readdirSync(folder)
      .map((name) => parseChainId(name.replace('-', ':'), 'name of a mount'))
      .filter((chainId) => !this.#isUsed(chainId))
    for (const chainId of unused) this.release(chainId)
    return unused.map((chainId) => this.pathOf(chainId)).filter((path) => !existsSync(path))
  }

  /** Where a stack is mounted, without a colon, which separates the folders of an overlay. */
  pathOf(chainId: ChainId): string {
    return join(this.#folder, chainId.replace(':', '-'))
  }

  #lockOf(chainId: ChainId): string {
    return lockPath(this.#paths, 'mount', chainId)
  }
}

// linux/magic.h
const EROFS_SUPER_MAGIC = 0xe0f5e1e2

/** A mount has another device than its parent folder, and is of type EROFS; cheaper than reading the table of all mounts. */
function isMounted(path: string): boolean {
  try {
    return statSync(path).dev !== statSync(dirname(path)).dev && statfsSync(path).type === EROFS_SUPER_MAGIC
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}
