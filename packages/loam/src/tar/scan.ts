import type { TarReader } from './reader.ts'

const WINDOW_BYTES = 64 << 10

/**
 * Reads the headers of a tar file and seeks over data. The caller reads the file, at once or asynchronously: `window.length` bytes from
 * `position` on into `window`, until `take` returns false.
 */
export class TarScan {
  readonly window = Buffer.alloc(WINDOW_BYTES)
  position = 0
  readonly #reader: TarReader

  constructor(reader: TarReader) {
    this.#reader = reader
  }

  /** Takes the bytes that were read into the window. Returns false at the end of the archive. @throws TAR_INVALID, LAYER_LIMIT, and the errors of `onEntry` */
  take(length: number): boolean {
    const reader = this.#reader
    if (length > 0) reader.write(this.window.subarray(0, length))
    this.position += length
    if (length === 0 || reader.skippableBytes === Number.POSITIVE_INFINITY) {
      reader.end()
      return false
    }
    // Reading on is cheaper than seeking over less than a window. The last byte is read: it shows that the archive has the others.
    if (reader.skippableBytes > WINDOW_BYTES) {
      const skipped = reader.skippableBytes - 1
      this.position += skipped
      reader.skip(skipped)
    }
    return true
  }
}
