import { closeSync, fdatasync, openSync, readSync, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import { LoamError, toLoamError } from '../errors/index.ts'
import { GroupSync } from '../linux/index.ts'

const syncData = promisify(fdatasync)

const CHUNK_BYTES = 1 << 20

/**
 * The log of a database (`metadata.db-wal`): commits are on the disk when the log is. Concurrent waits share one sync.
 * The kernel reports a failed write once and drops the pages; a later sync succeeds without them. So after a failure the log is written once
 * more from memory, before anything else is reported as being on the disk.
 */
export class Log implements Disposable {
  readonly #path: string
  readonly #exclusively: (act: () => void) => Promise<void>
  readonly #group = new GroupSync(async () => this.#sync())
  #fd: number | undefined
  #isClosed = false
  #isIncomplete = false
  #commits = 0
  #synced = 0

  /** `exclusively` runs a function while no process writes to the log. */
  constructor(path: string, exclusively: (act: () => void) => Promise<void>) {
    this.#path = path
    this.#exclusively = exclusively
  }

  /** Notes that a transaction is being committed that somebody waits for. */
  noteCommit(): void {
    this.#commits += 1
  }

  /** Waits until all commits are on the disk. They are visible meanwhile, and stay so after a failure. @throws system errors of the disk */
  async wait(): Promise<void> {
    await this.#group.wait()
  }

  /** The same, if there is a commit that was noted and is not known to be on the disk. */
  async settle(): Promise<void> {
    if (this.#synced < this.#commits) await this.#group.wait()
  }

  async #sync(): Promise<void> {
    const commits = this.#commits
    try {
      if (this.#isIncomplete) await this.#rewrite()
      await syncData(this.#open())
    } catch (error) {
      // The next sync may be another process's.
      if (!this.#isClosed) await this.#rewrite().catch(() => undefined)
      throw toLoamError(error, `sync ${this.#path}`)
    }
    this.#synced = commits
  }

  async #rewrite(): Promise<void> {
    this.#isIncomplete = true
    await this.#exclusively(() => {
      rewriteFile(this.#open())
    })
    this.#isIncomplete = false
  }

  /** SQLite creates no new log while the database is open. @throws CANCELED when the database was closed meanwhile */
  #open(): number {
    if (this.#isClosed) throw new LoamError('CANCELED', `sync ${this.#path}: the store was closed`)
    this.#fd ??= openSync(this.#path, 'r+')
    return this.#fd
  }

  [Symbol.dispose](): void {
    this.#isClosed = true
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }
}

/** Writes a file's content in its place, so that the kernel writes all of it to the disk again. */
function rewriteFile(fd: number): void {
  const chunk = Buffer.alloc(CHUNK_BYTES)
  for (let at = 0; ; ) {
    const bytes = readSync(fd, chunk, 0, chunk.length, at)
    if (bytes === 0) return
    for (let done = 0; done < bytes; ) done += writeSync(fd, chunk, done, bytes - done, at + done)
    at += bytes
  }
}
