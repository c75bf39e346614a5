import { chmodSync, renameSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { removeTree, removeTreeSync, unprotect } from '../linux/index.ts'
import type { StorePaths } from './store-paths.ts'

/** Removes a file or folder of the store: its name is free when this returns, and its blocks when the promise is fulfilled. */
export async function discard(paths: StorePaths, path: string): Promise<void> {
  const trashPath = moveToTrash(paths, path)
  if (trashPath !== undefined) await removeTree(trashPath)
}

/** Moved entries that are removed in the background: one after the other, so that calls are answered meanwhile. */
export class Removals {
  #last = Promise.resolve()

  /** As `discard`, but without waiting, and `prepare` is called with the entry first. A failure leaves the rest to the next sweep. */
  discard(paths: StorePaths, path: string, prepare?: (path: string) => Promise<void>): void {
    const trashPath = moveToTrash(paths, path)
    if (trashPath === undefined) return
    if (trashPath === path) {
      // It keeps its name, which may belong to another one as soon as the caller has released its lock.
      removeInPlace(path)
      return
    }
    const remove = async () => {
      await prepare?.(trashPath)
      await removeTree(trashPath)
    }
    this.#last = this.#last.then(remove).catch(() => undefined)
  }

  /** Waits until everything is removed from the disk. */
  async settle(): Promise<void> {
    await this.#last
  }
}

/** Gives an entry another name, in the place of whatever has it: a directory does not yield to a file, nor a file to a directory. @throws system errors */
export function moveOver(paths: StorePaths, from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if (!isErrno(error, 'EISDIR', 'ENOTDIR')) throw error
    clearName(paths, to)
    renameSync(from, to)
  }
}

/** Frees a name, whatever has it: the same as `discard` for what has no business there, at once. */
export function clearName(paths: StorePaths, path: string): void {
  const trashPath = moveToTrash(paths, path)
  if (trashPath !== undefined) removeInPlace(trashPath)
}

/** Removes it synchronously, which blocks this thread. Used only on a full disk, and for what should not be there. */
function removeInPlace(path: string): void {
  try {
    removeTreeSync(path)
  } catch {
    // The next sweep finds it in the trash or without a row.
  }
}

/**
 * Moves an entry to the trash, and returns its path there; undefined if it did not exist. A full disk may have no room for the
 * new name: then the entry is removed in place, as every entry without a row is sooner or later.
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

/** Without root a directory that its owner may not write to cannot be moved to another parent; with root one that its flags protect cannot. */
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
