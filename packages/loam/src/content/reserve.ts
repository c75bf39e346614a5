/*
 * Room that is kept for taking things away: SQLite needs some for each change, also for one that removes, and a lock needs a file.
 *   reserve/<number>   32 files of 32 KiB: a mebibyte, and 32 inodes
 * The folder without files says that they were given up: they are rebuilt as soon as there is any room. Without the folder they are
 * made where there is plenty.
 */
import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, statfsSync, writeSync } from 'node:fs'
import { randomFillSync } from 'node:crypto'
import { join } from 'node:path'
import { isErrno, isLoamError, toLoamError } from '../errors/index.ts'
import { FileLock, freeBytes, isFull, unlinkIfThere } from '../linux/index.ts'
import { lockPath, type StorePaths } from './store-paths.ts'

const FILES = 32
const FILE_BYTES = 32 << 10
const RESERVE_BYTES = FILES * FILE_BYTES
/** A store on less than that keeps nothing back: it could hold nothing else. */
const PLENTY_BYTES = 4 * RESERVE_BYTES
/** With fewer of these left the reserve is given up before it is needed. */
const FEW_INODES = 64

/** What a store keeps back, so that a full disk can be freed. Safe for many processes: none restores what another one uses. */
export class StoreReserve {
  readonly #paths: StorePaths
  /** Held, shared, for as long as what was given up is in use here. */
  #use: FileLock | undefined
  /** Calls that may be using it: one that ends fills nothing again that another one needs. */
  #users = 0

  constructor(paths: StorePaths) {
    this.#paths = paths
  }

  /**
   * Runs what takes something away, with the room that is kept for that when there is no other. It may be run a second time, so a repeated
   * call has to be harmless. @throws what it throws
   */
  free<T>(act: () => T): T {
    using _use = this.#enter()
    this.#prepare()
    return this.#retry(act)
  }

  /** The same for what takes its time. */
  async freeLater<T>(act: () => Promise<T>): Promise<T> {
    using _use = this.#enter()
    this.#prepare()
    return await this.#retryLater(act)
  }

  /** As `freeLater`, for what is called so often that the disk is looked at only when it was full. */
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

  /** A quota shows only when something is written. */
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

/** Some file systems have no table of inodes, and say 0. */
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

/** Random bytes, since zeros take no room where a file system compresses. A file that is shorter, since there was no more room, is a reserve, too. */
function fillFile(path: string): void {
  const fd = openSync(path, 'a', 0o600)
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
