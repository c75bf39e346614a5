import { mkdirSync, readdirSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { type Failure, LoamError, toLoamError } from '../errors/index.ts'
import { FileLock, removeTree, SPACE_PROBE_PREFIX, unlinkIfThere } from '../linux/index.ts'
import { lockPath, type StorePaths } from './store-paths.ts'

/**
 * A folder under `ingest/` for the unfinished work of this holder. A lock that lives as long as the holder shows
 * sweepers of other processes that it is in use; after a kill the lock is free and the folder may be removed.
 */
export class IngestArea implements AsyncDisposable {
  readonly path: string
  readonly #lock: FileLock
  #count = 0

  constructor(paths: StorePaths) {
    const name = randomUUID()
    this.path = join(paths.ingest, name)
    // The lock is there before the folder, so that no sweeper sees a folder without one.
    this.#lock = acquireFresh(lockPath(paths, 'ingest', name))
    try {
      mkdirSync(this.path, { mode: 0o700 })
    } catch (error) {
      this.#releaseLock()
      throw toLoamError(error, `make ${this.path}`)
    }
  }

  /** Returns an unused path in the folder. */
  newPath(label: string): string {
    this.#count += 1
    return join(this.path, `${label}-${this.#count}`)
  }

  /** Leaves files that cannot be removed to the next sweep: the operation has succeeded, and its result is valid. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await removeTree(this.path)
    } catch {
      // The disk fails; its next user gets the error.
    }
    this.#releaseLock()
  }

  #releaseLock(): void {
    try {
      this.#lock.remove()
    } catch {
      // The next sweep removes it.
    } finally {
      this.#lock.release()
    }
  }
}

function acquireFresh(path: string): FileLock {
  try {
    const lock = FileLock.tryAcquire(path)
    if (lock !== undefined) return lock
  } catch (error) {
    throw toLoamError(error, `lock ${path}`)
  }
  throw new LoamError('INTERNAL', `a fresh lock is taken: ${path}`)
}

/** The result of a sweep; paths below the store's root. */
export interface Sweep {
  /** Removed paths. */
  readonly swept: readonly string[]
  /** Paths that could not be removed, with the reason; the next sweep tries again. */
  readonly failed: readonly Failure[]
}

/**
 * Removes unfinished work in `ingest/` whose holder is gone, and empties `trash/`. Files of containers may be in there: one that cannot be
 * removed does not keep the others from being removed, nor the store from being opened.
 */
export async function sweepUnfinished(paths: StorePaths): Promise<Sweep> {
  const swept: string[] = []
  const failed: { what: string; reason: string }[] = []
  const sweep = async (what: string, remove: () => boolean | Promise<boolean>) => {
    try {
      if (await remove()) swept.push(what)
    } catch (error) {
      failed.push({ what: join(paths.root, what), reason: toLoamError(error, 'remove').message })
    }
  }
  for (const name of readdirSync(paths.ingest))
    await sweep(join('ingest', name), async () => removeUnfinished(paths, name))
  for (const name of readdirSync(paths.trash)) {
    await sweep(join('trash', name), async () => {
      await removeTree(join(paths.trash, name))
      return true
    })
  }
  for (const name of readdirSync(paths.root).filter((each) => each.startsWith(SPACE_PROBE_PREFIX)))
    await sweep(name, () => unlinkIfThere(join(paths.root, name)))
  return { swept, failed }
}

async function removeUnfinished(paths: StorePaths, name: string): Promise<boolean> {
  using lock = FileLock.tryAcquire(lockPath(paths, 'ingest', name))
  if (lock === undefined) return false
  await removeTree(join(paths.ingest, name))
  lock.remove()
  return true
}
