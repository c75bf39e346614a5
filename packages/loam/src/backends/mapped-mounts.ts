import { createHash } from 'node:crypto'
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { leaseOrMake, lockPath, type StorePaths } from '../content/index.ts'
import { isErrno, LoamError } from '../errors/index.ts'
import {
  createDirectories,
  DetachedMount,
  FileLock,
  type IdMapping,
  mountAt,
  toHostId,
  unmountAll,
  withUserNamespace,
} from '../linux/index.ts'
import { releaseUnused, removeMountPoint } from './mount-point.ts'
import { isSameFile } from './standing.ts'

export interface MappedMountsOptions {
  readonly paths: StorePaths
  /** A folder for mount points, absolute, without symlinks; created when it is needed. */
  readonly stateFolder: string
  /** Returns whether a root filesystem or a snapshot needs the mount of a source with the mapping of this key. */
  readonly isUsed: (source: string, mappingKey: string) => boolean
  /** Lists the keys of all mappings of root filesystems and snapshots. */
  readonly mappingKeys: () => string[]
}

/** A directory that is to be shown with mapped IDs. */
export interface MappedSource {
  /** Its name among all such directories: the same name is the same content. Without a dot and a colon. */
  readonly name: string
  readonly path: string
}

/**
 * Directories of a store with the IDs of their files mapped, for containers in user namespaces: one mount for each directory and mapping, which all of
 * them share. The database knows which of them are needed, as for the mounts of stacks.
 */
export class MappedMounts {
  readonly #options: MappedMountsOptions

  constructor(options: MappedMountsOptions) {
    this.#options = options
  }

  /** Without symlinks, as in the mount table. */
  get #folder(): string {
    const { stateFolder } = this.#options
    return join(existsSync(stateFolder) ? realpathSync(stateFolder) : stateFolder, 'mapped')
  }

  /**
   * Ensures that a directory is mounted with a mapping, and returns the path, with a lease that keeps it mounted until released. The caller keeps the
   * source where it is meanwhile. @throws UNSUPPORTED_SYSTEM if the file system of the source cannot map IDs
   */
  async lease(
    source: MappedSource,
    mapping: IdMapping,
    signal: AbortSignal | undefined,
  ): Promise<{ path: string; lease: FileLock }> {
    createDirectories(this.#options.stateFolder)
    const name = nameOf(source.name, mapping.key)
    const path = join(this.#folder, name)
    const make = async (given: AbortSignal | undefined) => {
      createDirectories(path)
      // A mount of an earlier source; root filesystems that use it keep it.
      unmountAll(path)
      await mountMapped(source.path, { target: path, mapping, signal: given })
    }
    const lease = await leaseOrMake(this.#lockOf(name), () => isShown(source.path, path, mapping), make, {
      signal,
    })
    return { path, lease }
  }

  /** Returns the path where a directory is mounted with a mapping; undefined if it is not. */
  find(source: MappedSource, mapping: IdMapping): string | undefined {
    const path = join(this.#folder, nameOf(source.name, mapping.key))
    return isShown(source.path, path, mapping) ? path : undefined
  }

  /** Unmounts and removes the mount of a source, unless it is used. Called after a user was removed. */
  release(source: string, mappingKey: string): void {
    const name = nameOf(source, mappingKey)
    if (!existsSync(join(this.#folder, name))) return
    const isUsed = () => this.#options.isUsed(source, mappingKey)
    releaseUnused(this.#lockOf(name), isUsed, (lock) => {
      this.#remove(name, lock)
    })
  }

  #remove(name: string, lock: FileLock): void {
    removeMountPoint(join(this.#folder, name))
    lock.remove()
  }

  /** Unmounts and removes all mounts that are not used, and returns their paths. */
  sweep(): string[] {
    const folder = this.#folder
    const names = existsSync(folder) ? readdirSync(folder) : []
    let keys = new Map<string, string>()
    for (const name of names) {
      using lock = FileLock.tryAcquire(this.#lockOf(name))
      if (lock === undefined) continue
      const [source = '', hash = ''] = name.split('.')
      // A user may have been recorded since: only what is read while the lock is held counts.
      if (!keys.has(hash)) keys = new Map(this.#options.mappingKeys().map((key) => [hashOf(key), key]))
      const key = keys.get(hash)
      if (key !== undefined && this.#options.isUsed(source, key)) continue
      this.#remove(name, lock)
    }
    return names.map((name) => join(folder, name)).filter((path) => !existsSync(path))
  }

  #lockOf(name: string): string {
    return lockPath(this.#options.paths, 'mount', name)
  }
}

/** The text of a mapping may be longer than a name. */
function hashOf(mappingKey: string): string {
  return createHash('sha256').update(mappingKey).digest('hex').slice(0, 32)
}

function nameOf(source: string, mappingKey: string): string {
  return `${source}.${hashOf(mappingKey)}`
}

/** Returns whether a path shows a directory with mapped IDs. */
function isShown(source: string, path: string, { uids, gids }: IdMapping): boolean {
  if (!isSameFile(source, path)) return false
  const [own, shown] = [statSync(source), statSync(path)]
  // The system chooses the ID of what is not mapped.
  return [
    [toHostId(uids, own.uid), shown.uid],
    [toHostId(gids, own.gid), shown.gid],
  ].every(([expected, found]) => expected === undefined || expected === found)
}

async function mountMapped(
  source: string,
  { target, mapping, signal }: { target: string; mapping: IdMapping; signal: AbortSignal | undefined },
): Promise<void> {
  const attach = (userNamespace: number) => {
    using mount = mapIds(source, userNamespace)
    mountAt(mount, target)
  }
  await withUserNamespace(mapping, attach, signal)
}

function mapIds(source: string, userNamespace: number): DetachedMount {
  try {
    return DetachedMount.withMappedIds(source, userNamespace)
  } catch (error) {
    if (!isErrno(error, 'EINVAL', 'EPERM')) throw error
    throw new LoamError('UNSUPPORTED_SYSTEM', `map the IDs of ${source}: the system refuses it`, {
      cause: error,
      hint: 'EROFS maps IDs since Linux 5.19; ext4, xfs and btrfs do, overlayfs and mounts whose IDs are mapped already do not.',
    })
  }
}
