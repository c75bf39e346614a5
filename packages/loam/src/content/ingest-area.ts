import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, unlinkSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { isErrno, toLoamError } from '../errors/index.ts'
import { FileLock, removeTree, removeTreeLater, SPACE_PROBE_PREFIX, unprotect } from '../linux/index.ts'
import { lockPath, type StorePaths } from './store-paths.ts'

/**
 * A folder under `ingest/` for what this holder has not finished. A lock that lives as long as the holder tells
 * sweepers of other processes that it is in use; after a kill the lock is free and the folder is rubbish.
 */
export class IngestArea implements Disposable {
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
      this[Symbol.dispose]()
      throw toLoamError(error, `make ${this.path}`)
    }
  }

  /** Returns a path in the folder that nothing has been made at. */
  newPath(label: string): string {
    this.#count += 1
    return join(this.path, `${label}-${this.#count}`)
  }

  /** What cannot be removed is left to the next sweep: the work is done, and its result stands. */
  [Symbol.dispose](): void {
    try {
      removeTree(this.path)
      removeFile(this.#lock.path)
    } catch {
      // A disk that fails; whoever needs it next is told.
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
  throw new Error(`a fresh lock is taken: ${path}`)
}

/** What a sweep did; paths below the store's root. */
export interface Sweep {
  readonly swept: readonly string[]
  /** What could not be removed, with the reason; the next sweep tries again. */
  readonly failed: readonly { readonly what: string; readonly reason: string }[]
}

/**
 * Removes what holders that are gone left in `ingest/`, and empties `trash/`. What a container has made may lie there, and nothing of it keeps
 * the rest from going, nor the store from being opened.
 */
export function sweepUnfinished(paths: StorePaths): Sweep {
  const swept: string[] = []
  const failed: { what: string; reason: string }[] = []
  const sweep = (what: string, remove: () => boolean) => {
    try {
      if (remove()) swept.push(what)
    } catch (error) {
      failed.push({ what: join(paths.root, what), reason: toLoamError(error, 'remove').message })
    }
  }
  for (const name of readdirSync(paths.ingest))
    sweep(join('ingest', name), () => removeUnfinished(paths, name))
  for (const name of readdirSync(paths.trash)) {
    sweep(join('trash', name), () => {
      removeTree(join(paths.trash, name))
      return true
    })
  }
  for (const name of readdirSync(paths.root).filter((each) => each.startsWith(SPACE_PROBE_PREFIX)))
    sweep(name, () => removeFile(join(paths.root, name)))
  return { swept, failed }
}

function removeUnfinished(paths: StorePaths, name: string): boolean {
  using lock = FileLock.tryAcquire(lockPath(paths, 'ingest', name))
  if (lock === undefined) return false
  removeTree(join(paths.ingest, name))
  removeFile(lock.path)
  return true
}

/** Removes a file or folder of the store: first out of sight in one step, then from the disk. */
export function discard(paths: StorePaths, path: string): void {
  const trashPath = moveToTrash(paths, path)
  if (trashPath !== undefined) removeTree(trashPath)
}

/**
 * Moves something out of sight, and returns where it is then; undefined when it was not there. On a full disk there may be no room for the
 * new name: then it is removed where it is, which is what all that has no row comes to.
 */
function moveToTrash(paths: StorePaths, path: string): string | undefined {
  const trashPath = join(paths.trash, randomUUID())
  try {
    moveAway(path, trashPath)
    return trashPath
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    if (isErrno(error, 'ENOSPC', 'EDQUOT')) return path
    throw error
  }
}

/** Without root a directory that its owner may not write to can be given no other parent; with root one that its flags protect. */
function moveAway(path: string, trashPath: string): void {
  try {
    renameSync(path, trashPath)
  } catch (error) {
    if (!isErrno(error, 'EACCES', 'EPERM')) throw error
    if (isErrno(error, 'EACCES')) chmodSync(path, 0o700)
    else unprotect(path)
    renameSync(path, trashPath)
  }
}

/** As `discard`, but the files go while others work; `pending` holds what has not ended. A failure leaves the rest to the next sweep. */
export function discardLater(paths: StorePaths, path: string, pending: Set<Promise<void>>): void {
  const trashPath = moveToTrash(paths, path)
  if (trashPath === undefined) return
  const removal = removeTreeLater(trashPath)
    .catch(() => undefined)
    .finally(() => pending.delete(removal))
  pending.add(removal)
}

function removeFile(path: string): boolean {
  const isThere = existsSync(path)
  if (isThere) unlinkSync(path)
  return isThere
}
