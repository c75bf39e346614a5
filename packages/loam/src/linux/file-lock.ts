import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isErrno, throwIfAborted, LoamError } from '../errors/index.ts'
import { libc } from './libc.ts'
import { findLockHolder } from './lock-holder.ts'
import { unlinkIfThere } from './unlink.ts'

const LOCK_SH = 1
const LOCK_EX = 2
const LOCK_NB = 4
const FIRST_WAIT_MS = 5
const LAST_WAIT_MS = 100

export interface LockOptions {
  /** Any number of shared locks may be held at once, or one exclusive lock. Exclusive by default. */
  readonly shared?: boolean
  readonly signal?: AbortSignal | undefined
  /** Called once, before waiting, if the lock is held by another holder, with the process that holds it, if it is known. */
  readonly onWait?: (holderPid: number | undefined) => void
}

/**
 * A lock on a file, held by a descriptor (flock(2)): between processes, and between holders in one process.
 * The kernel releases it when the process ends, however it ends. Only the exclusive holder removes the file, by `remove`;
 * others then take the lock on the new file.
 */
export class FileLock implements Disposable {
  readonly path: string
  readonly #isShared: boolean
  #fd: number | undefined

  private constructor(path: string, fd: number, isShared: boolean) {
    this.path = path
    this.#isShared = isShared
    this.#fd = fd
  }

  /** Waits for the lock; polls, so that a signal can end the wait. @throws CANCELED and system errors */
  static async acquire(path: string, options: LockOptions = {}): Promise<FileLock> {
    const lock = await FileLock.acquireUnless(path, () => false, options)
    if (lock === undefined) throw new LoamError('INTERNAL', `lock ${path}: failed without an error`)
    return lock
  }

  /**
   * Waits for the lock like `acquire`, but only as long as it is needed: returns undefined as soon as
   * `isNeedless` returns true while another holder has the lock. @throws CANCELED and system errors
   */
  static async acquireUnless(
    path: string,
    isNeedless: () => boolean,
    options: LockOptions = {},
  ): Promise<FileLock | undefined> {
    let waitMs = FIRST_WAIT_MS
    for (let tries = 0; ; tries += 1) {
      throwIfAborted(options.signal, `lock ${path}`)
      const lock = FileLock.tryAcquire(path, options)
      if (lock !== undefined) return lock
      if (isNeedless()) return undefined
      if (tries === 0) options.onWait?.(findLockHolder(path))
      await sleep(waitMs)
      waitMs = Math.min(waitMs * 2, LAST_WAIT_MS)
    }
  }

  /** Takes the lock if it is free. */
  static tryAcquire(path: string, options: Pick<LockOptions, 'shared'> = {}): FileLock | undefined {
    const isShared = options.shared === true
    for (;;) {
      const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
      try {
        libc().flock(fd, (isShared ? LOCK_SH : LOCK_EX) | LOCK_NB)
      } catch (error) {
        closeSync(fd)
        if (isErrno(error, 'EAGAIN', 'EWOULDBLOCK')) return undefined
        throw error
      }
      if (isStillAt(fd, path)) return new FileLock(path, fd, isShared)
      // It was removed between open and flock: this lock is on a file that no other process can find.
      closeSync(fd)
    }
  }

  /** Removes the file of the lock, if it still has its name, and keeps the lock. @throws INTERNAL unless it is held exclusively, system errors */
  remove(): void {
    if (this.#isShared || this.#fd === undefined)
      throw new LoamError('INTERNAL', `remove the lock ${this.path}: it is not held exclusively`)
    if (isStillAt(this.#fd, this.path)) unlinkIfThere(this.path)
  }

  /** Releases the lock. Safe to call twice. */
  release(): void {
    if (this.#fd === undefined) return
    closeSync(this.#fd)
    this.#fd = undefined
  }

  [Symbol.dispose](): void {
    this.release()
  }
}

function isStillAt(fd: number, path: string): boolean {
  try {
    const held = fstatSync(fd)
    const found = statSync(path)
    return held.ino === found.ino && held.dev === found.dev
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}
