import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, unlinkSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { isErrno, toLoamError } from '../errors/index.ts'
import { FileLock, removeTree, SPACE_PROBE_PREFIX } from '../linux/index.ts'
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

/** Removes what holders that are gone left in `ingest/`, and empties `trash/`. Returns what was removed. */
export function sweepUnfinished(paths: StorePaths): string[] {
  const swept: string[] = []
  for (const name of readdirSync(paths.ingest)) {
    using lock = FileLock.tryAcquire(lockPath(paths, 'ingest', name))
    if (lock === undefined) continue
    removeTree(join(paths.ingest, name))
    removeFile(lock.path)
    swept.push(join('ingest', name))
  }
  return [...swept, ...emptyTrash(paths), ...removeProbes(paths)]
}

function removeProbes(paths: StorePaths): string[] {
  const names = readdirSync(paths.root).filter((name) => name.startsWith(SPACE_PROBE_PREFIX))
  for (const name of names) removeFile(join(paths.root, name))
  return names
}

/** Removes a file or folder of the store: first out of sight in one step, then from the disk. */
export function discard(paths: StorePaths, path: string): void {
  const grave = bury(paths, path)
  if (grave !== undefined) removeTree(grave)
}

/**
 * Moves something out of sight, and returns where it is then; undefined when it was not there. On a full disk there may be no room for the
 * new name: then it is removed where it is, which is what all that has no row comes to.
 */
function bury(paths: StorePaths, path: string): string | undefined {
  const grave = join(paths.trash, randomUUID())
  try {
    moveAway(path, grave)
    return grave
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    if (isErrno(error, 'ENOSPC', 'EDQUOT')) return path
    throw error
  }
}

/** Without root a directory that its owner may not write to can be given no other parent. */
function moveAway(path: string, grave: string): void {
  try {
    renameSync(path, grave)
  } catch (error) {
    if (!isErrno(error, 'EACCES')) throw error
    chmodSync(path, 0o700)
    renameSync(path, grave)
  }
}

/** As `discard`, but the files go while others work; `pending` holds what has not ended. A failure leaves the rest to the next sweep. */
export function discardLater(paths: StorePaths, path: string, pending: Set<Promise<void>>): void {
  const grave = bury(paths, path)
  if (grave === undefined) return
  const removal = rm(grave, { recursive: true, force: true })
    // Without root there are folders that only this one knows how to remove.
    .catch(() => removeTree(grave))
    .catch(() => undefined)
    .finally(() => pending.delete(removal))
  pending.add(removal)
}

function emptyTrash(paths: StorePaths): string[] {
  const names = readdirSync(paths.trash)
  for (const name of names) removeTree(join(paths.trash, name))
  return names.map((name) => join('trash', name))
}

function removeFile(path: string): void {
  if (existsSync(path)) unlinkSync(path)
}
