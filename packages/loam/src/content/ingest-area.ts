import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, unlinkSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { FileLock, removeTree } from '../linux/index.ts'
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
    const lock = FileLock.tryAcquire(lockPath(paths, 'ingest', name))
    if (lock === undefined) throw new Error(`a fresh lock is taken: ${name}`)
    // The lock is there before the folder, so that no sweeper sees a folder without one.
    this.#lock = lock
    this.path = join(paths.ingest, name)
    mkdirSync(this.path, { mode: 0o700 })
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
  return [...swept, ...emptyTrash(paths)]
}

/** Removes a file or folder of the store: first out of sight in one step, then from the disk. */
export function discard(paths: StorePaths, path: string): void {
  const grave = join(paths.trash, randomUUID())
  try {
    moveAway(path, grave)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  removeTree(grave)
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
  const grave = join(paths.trash, randomUUID())
  try {
    renameSync(path, grave)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  const removal = rm(grave, { recursive: true, force: true })
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
