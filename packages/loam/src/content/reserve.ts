/*
 * Space that is reserved for removals: SQLite needs some for every change, also for one that removes, and a lock needs a file.
 *   reserve/<number>   32 files of 32 KiB: a mebibyte, and 32 inodes
 * A directory without files means that the reserve is used: it is restored as soon as there is any room. A missing directory is created
 * where there is plenty of room.
 */
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  statfsSync,
  writeSync,
} from 'node:fs'
import { randomFillSync } from 'node:crypto'
import { join } from 'node:path'
import { isErrno, isLoamError, toLoamError } from '../errors/index.ts'
import { FileLock, freeBytes, isFull, unlinkIfThere } from '../linux/index.ts'
import { lockPath, type StorePaths } from './store-paths.ts'

const FILES = 32
const FILE_BYTES = 32 << 10
const RESERVE_BYTES = FILES * FILE_BYTES
/** A smaller store has no reserve: there would be room for nothing else. */
const PLENTY_BYTES = 4 * RESERVE_BYTES
/** With fewer free inodes than these the reserve is released before it is needed. */
const FEW_INODES = 64

/** The reserve of a store, so that a full disk can be freed. Safe for many processes: none restores a reserve that another one uses. */
export class StoreReserve {
  readonly #paths: StorePaths
  /** A shared lock, held for as long as this process uses the reserve. */
  #use: FileLock | undefined
  /** Calls that may be using the reserve: a call that ends does not restore it while another one needs it. */
  #users = 0

  constructor(paths: StorePaths) {
    this.#paths = paths
  }

  /**
   * Runs a removal, and gives it the reserve if there is no other room. The function may run a second time, so it has to be
   * idempotent. @throws the errors of the function
   */
  free<T>(act: () => T): T {
    using _use = this.#enter()
    this.#prepare()
    return this.#retry(act)
  }

  /** The same for an asynchronous removal. */
  async freeLater<T>(act: () => Promise<T>): Promise<T> {
    using _use = this.#enter()
    this.#prepare()
    return await this.#retryLater(act)
  }

  /** As `freeLater`, for frequent calls: free space is checked only after a call has met a full disk. */
  async freeQuickly<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act()
    } catch (error) {
      if (!isOutOfRoom(error)) throw error
    }
    return this.freeLater(async () => {
      this.#giveUp()
      return act()
    })
  }

  #enter(): Disposable {
    this.#users += 1
    return {
      [Symbol.dispose]: () => {
        this.#users -= 1
        this.fill()
      },
    }
  }

  #prepare(): void {
    if (this.#isShort()) this.#giveUp()
  }

  #retry<T>(act: () => T): T {
    try {
      return act()
    } catch (error) {
      if (!isOutOfRoom(error)) throw error
      this.#giveUp()
      return act()
    }
  }

  async #retryLater<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act()
    } catch (error) {
      if (!isOutOfRoom(error)) throw error
      this.#giveUp()
      return act()
    }
  }

  /** Creates the missing parts if there is room and the reserve is not in use; failing to create them is not an error. */
  fill(): void {
    if (this.#users > 0) return
    this.#use?.release()
    this.#use = undefined
    try {
      const folder = this.#paths.reserve
      const names = listOf(folder)
      if (names?.length === FILES) return
      if (names === undefined && freeBytes(this.#paths.root) < PLENTY_BYTES) return
      using lock = FileLock.tryAcquire(this.#lockFile)
      if (lock === undefined) return
      if (names === undefined) mkdirSync(folder, { mode: 0o700 })
      for (let index = 0; index < FILES; index += 1) fillFile(join(folder, String(index)))
    } catch {
      // The next one to open or to free tries again.
    }
  }

  #giveUp(): void {
    this.#use ??= tryOrUndefined(() => FileLock.tryAcquire(this.#lockFile, { shared: true }))
    const names = listOf(this.#paths.reserve) ?? []
    for (const name of names) unlinkIfThere(join(this.#paths.reserve, name))
  }

  /** A quota shows only on a write. */
  #isShort(): boolean {
    const { root } = this.#paths
    if (freeBytes(root) < RESERVE_BYTES || hasFewInodes(root)) return true
    return isFull(root)
  }

  get #lockFile(): string {
    return lockPath(this.#paths, 'reserve', 'use')
  }
}

function isOutOfRoom(error: unknown): boolean {
  return isLoamError(toLoamError(error, 'free'), 'NO_SPACE')
}

/** Some file systems have no inode table, and report 0. */
function hasFewInodes(path: string): boolean {
  const { files, ffree } = statfsSync(path)
  return files > 0 && ffree < FEW_INODES
}

function listOf(folder: string): string[] | undefined {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

const APPEND = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK

/** Random bytes, since zeros take no space on a file system that compresses. A file that is shorter for want of space counts as well. */
function fillFile(path: string): void {
  // A pipe in its place has no reader, and opening it would wait for one.
  const fd = openSync(path, APPEND, 0o600)
  try {
    if (fstatSync(fd).size < FILE_BYTES) writeSync(fd, randomFillSync(Buffer.alloc(FILE_BYTES)))
  } finally {
    closeSync(fd)
  }
}

function tryOrUndefined<T>(act: () => T): T | undefined {
  try {
    return act()
  } catch {
    return undefined
  }
}
