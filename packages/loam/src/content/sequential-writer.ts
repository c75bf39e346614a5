import { closeSync, constants, fsync, openSync, writev } from 'node:fs'
import { promisify } from 'node:util'

const BATCH_BYTES = 1 << 20

const fsyncAsync = promisify(fsync)
const writevAsync = promisify(writev)

/**
 * Writes a file from front to back in large pieces. One piece is written by another thread while the next one is
 * gathered. Holds up to 2 MiB.
 */
export class SequentialWriter implements AsyncDisposable {
  readonly #fd: number
  #chunks: Buffer[] = []
  #gatheredBytes = 0
  #writing: Promise<void> = Promise.resolve()
  #writtenBytes = 0

  /** Creates the file; its name must not exist. */
  constructor(path: string) {
    this.#fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  }

  /** Appends bytes, which the caller must not change afterwards. */
  async write(chunk: Buffer): Promise<void> {
    this.#chunks.push(chunk)
    this.#gatheredBytes += chunk.length
    if (this.#gatheredBytes >= BATCH_BYTES) await this.#flush()
  }

  /** Waits until everything is on the disk. */
  async sync(): Promise<void> {
    await this.flush()
    await fsyncAsync(this.#fd)
  }

  /** Waits until everything can be read from the file. */
  async flush(): Promise<void> {
    await this.#flush()
    await this.#writing
  }

  async #flush(): Promise<void> {
    await this.#writing
    const chunks = this.#chunks
    this.#chunks = []
    this.#gatheredBytes = 0
    if (chunks.length > 0) this.#writing = this.#writeAll(chunks)
    // The next await of it throws the failure; until then it must not count as unhandled.
    this.#writing.catch(() => undefined)
  }

  async #writeAll(chunks: Buffer[]): Promise<void> {
    const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    let left: Buffer = Buffer.alloc(0)
    let pending = chunks
    let done = 0
    while (done < total) {
      const { bytesWritten: written } = await writevAsync(this.#fd, pending, this.#writtenBytes)
      done += written
      this.#writtenBytes += written
      if (done < total) {
        left = Buffer.concat(pending).subarray(written)
        pending = [left]
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => undefined)
    closeSync(this.#fd)
  }
}
