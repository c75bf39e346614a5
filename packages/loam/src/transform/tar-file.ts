import { closeSync, openSync, writeSync } from 'node:fs'
import { startWriteback } from '../linux/index.ts'

const WRITEBACK_BYTES = 16 << 20

/**
 * Writes the tar of a layer in this thread. Another thread would copy bytes that only the cache of this processor has: a pull of large files takes a third
 * more processor time then.
 */
export class TarFile implements Disposable {
  readonly #fd: number
  readonly #syncEarly: boolean
  #writtenBytes = 0
  #announcedBytes = 0

  /** Creates the file; its name must not exist. `syncEarly` starts to write it to the disk early, for a caller that will wait for the disk. */
  constructor(path: string, { syncEarly }: { readonly syncEarly: boolean }) {
    this.#syncEarly = syncEarly
    this.#fd = openSync(path, 'wx', 0o600)
  }

  /** Appends bytes, which can be read from the file then. @throws system errors */
  write(bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done)
    this.#writtenBytes += bytes.length
    if (!this.#syncEarly || this.#writtenBytes - this.#announcedBytes < WRITEBACK_BYTES) return
    startWriteback(this.#fd, this.#announcedBytes, this.#writtenBytes - this.#announcedBytes)
    this.#announcedBytes = this.#writtenBytes
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}
