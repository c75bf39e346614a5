import { mkdirSync, readdirSync, renameSync, statSync, truncateSync } from 'node:fs'
import { type FileHandle, open, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import { FileLock, kindOf } from '../linux/index.ts'
import type { StorePaths } from './store-paths.ts'

const CHUNK_BYTES = 256 << 10
/** Received bytes that wait for the write of those before. A write for each chunk of a socket takes longer than receiving it. */
const STAGED_BYTES = 512 << 10

/**
 * The received part of a blob: a file in `partial/`, written during the transfer and not verified, so that the next fetch of the blob resumes
 * there: in the same process after a failure, or in another one after a Ctrl-C, a kill or, as far as the kernel has written it, a power cut. The
 * file is its own lock, which lives as long as the process. Nothing depends on it: failing to keep bytes is not an error.
 */
export class PartialBlob implements Disposable {
  readonly #lock: FileLock
  /** Bytes that were in the file when it was opened. */
  readonly keptBytes: number
  #isKeeping = true
  #isDropped = false

  private constructor(lock: FileLock, keptBytes: number) {
    this.#lock = lock
    this.keptBytes = keptBytes
  }

  /** Opens the received part of a blob. Undefined if another process has it, or nothing can be kept. */
  static claim(paths: StorePaths, digest: Digest, sizeBytes: number): PartialBlob | undefined {
    let lock: FileLock | undefined
    try {
      mkdirSync(paths.partial, { recursive: true, mode: 0o700 })
      lock = FileLock.tryAcquire(join(paths.partial, digest.replace(':', '-')))
      if (lock === undefined) return undefined
      const stats = statSync(lock.path)
      if (!stats.isFile()) throw new Error(`${lock.path} is ${kindOf(stats)}`)
      if (stats.size <= sizeBytes) return new PartialBlob(lock, stats.size)
      truncateSync(lock.path)
      return new PartialBlob(lock, 0)
    } catch {
      lock?.release()
      return undefined
    }
  }

  /** Yields the kept bytes, then those that `openFrom` returns from there on, which are kept as they arrive. */
  async *resume(openFrom: (fromByte: number) => AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    yield* readFrom(this.#lock.path, this.keptBytes)
    await using file = await KeptFile.open(this.#lock.path, this.keptBytes)
    for await (const chunk of openFrom(this.keptBytes)) {
      // A dropped file may be that of another process by now.
      if (this.#isKeeping) await file?.append(chunk)
      yield chunk
    }
  }

  /** Gives the file another name if it has all bytes of the blob, and returns whether it has. The caller has verified them. @throws system errors */
  moveTo(path: string, sizeBytes: number): boolean {
    if (this.#isDropped || !this.#isKeeping || statSync(this.#lock.path).size !== sizeBytes) return false
    renameSync(this.#lock.path, path)
    this.#isDropped = true
    return true
  }

  /** Removes the file: it is not needed any more, or is damaged. Returns the freed bytes. A file that cannot be removed is left to the next sweep. */
  async drop(): Promise<number> {
    this.#isKeeping = false
    if (this.#isDropped) return 0
    this.#isDropped = true
    try {
      return await removeHeld(this.#lock)
    } catch {
      return 0
    }
  }

  /** Removes an empty file. */
  [Symbol.dispose](): void {
    try {
      // After a drop the name may belong to another process.
      if (!this.#isDropped && statSync(this.#lock.path).size === 0) this.#lock.remove()
    } catch {
      // It is removed already, or left to the next sweep.
    }
    this.#lock.release()
  }
}

async function* readFrom(path: string, bytes: number): AsyncGenerator<Buffer> {
  if (bytes === 0) return
  await using file = await open(path, 'r')
  for (let position = 0; position < bytes; ) {
    const chunk = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, bytes - position))
    const { bytesRead } = await file.read(chunk, 0, chunk.length, position)
    if (bytesRead === 0) return
    position += bytesRead
    yield chunk.subarray(0, bytesRead)
  }
}

/**
 * Appends bytes to a file while others work with them: they are copied, and written as soon as those before are. So a slow source has each of its
 * chunks in the file, and a fast one waits for few writes. Once the bytes cannot be kept, nothing more is written.
 */
class KeptFile implements AsyncDisposable {
  readonly #file: FileHandle
  #position: number
  #staged = Buffer.allocUnsafeSlow(STAGED_BYTES)
  #stagedBytes = 0
  /** Memory of the write that is under way. */
  #spare = Buffer.allocUnsafeSlow(STAGED_BYTES)
  #writing: Promise<void> | undefined
  #isFull = false

  private constructor(file: FileHandle, position: number) {
    this.#file = file
    this.#position = position
  }

  static async open(path: string, position: number): Promise<KeptFile | undefined> {
    try {
      return new KeptFile(await open(path, 'r+'), position)
    } catch {
      return undefined
    }
  }

  /** Takes bytes, which the caller may change afterwards. */
  async append(chunk: Buffer): Promise<void> {
    for (let done = 0; done < chunk.length && !this.#isFull; ) {
      const bytes = chunk.copy(this.#staged, this.#stagedBytes, done)
      this.#stagedBytes += bytes
      done += bytes
      this.#writing ??= this.#writeStaged()
      if (this.#stagedBytes === STAGED_BYTES) await this.#writing
    }
  }

  /** Never rejects. If the bytes cannot be kept, the file is emptied, since a full disk needs the space for the layer. */
  async #writeStaged(): Promise<void> {
    try {
      while (this.#stagedBytes > 0) {
        const bytes = this.#staged.subarray(0, this.#stagedBytes)
        ;[this.#staged, this.#spare] = [this.#spare, this.#staged]
        this.#stagedBytes = 0
        await this.#write(bytes)
      }
    } catch {
      this.#isFull = true
      await this.#file.truncate().catch(() => undefined)
    } finally {
      this.#writing = undefined
    }
  }

  async #write(bytes: Buffer): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#position)
      done += bytesWritten
      this.#position += bytesWritten
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing
    await this.#file.close().catch(() => undefined)
  }
}

/** Removes received parts of blobs without an owner, unless they were written to recently. Returns how many bytes that freed. */
export async function sweepPartials(paths: StorePaths, olderThanMs = 0): Promise<number> {
  let freed = 0
  for (const path of listPartials(paths)) {
    using lock = FileLock.tryAcquire(path)
    if (lock === undefined) continue
    try {
      if (Date.now() - statSync(path).mtimeMs >= olderThanMs) freed += await removeHeld(lock)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
  return freed
}

function listPartials({ partial }: StorePaths): string[] {
  try {
    return readdirSync(partial).map((name) => join(partial, name))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

async function removeHeld(lock: FileLock): Promise<number> {
  const { size } = statSync(lock.path)
  // The lock keeps the blocks until it is closed, which this thread does.
  await truncate(lock.path).catch(() => undefined)
  lock.remove()
  return size
}
