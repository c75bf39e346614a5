import { chmodSync, renameSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { removeTree, removeTreeSync, unprotect } from '../linux/index.ts'
import type { StorePaths } from './store-paths.ts'

/** Removes a file or folder of the store: out of sight when this returns, and from the disk when its promise is fulfilled. */
export async function discard(paths: StorePaths, path: string): Promise<void> {
  const trashPath = moveToTrash(paths, path)
  if (trashPath !== undefined) await removeTree(trashPath)
}

/** What is out of sight and goes from the disk while others work: one after the other, so that calls are answered meanwhile. */
export class Removals {
  #last = Promise.resolve()

  /** As `discard`, but without waiting. A failure leaves the rest to the next sweep. */
  discard(paths: StorePaths, path: string): void {
    const trashPath = moveToTrash(paths, path)
    if (trashPath === undefined) return
    if (trashPath === path) {
      // It keeps its name, which may be another's as soon as the caller has released its lock.
      removeInPlace(path)
      return
    }
    this.#last = this.#last.then(async () => removeTree(trashPath)).catch(() => undefined)
  }

  /** Waits until all is gone from the disk. */
  async settle(): Promise<void> {
    await this.#last
  }
}

/** Blocks this thread. It happens only where the disk is full. */
function removeInPlace(path: string): void {
  try {
    removeTreeSync(path)
  } catch {
    // The next sweep finds it without a row.
  }
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
