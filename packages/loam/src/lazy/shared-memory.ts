/** Bytes that another thread reads, too. */
export type SharedBytes = Uint8Array<SharedArrayBuffer>

/** Sizes of memory are multiples of this, so that spans of about one size can use the same. */
const UNIT_BYTES = 128 << 10
/** Memory that is kept for later; more was needed at once only for a moment. */
const MAX_KEPT = 8

/** Memory for bytes that are passed to other threads. It is used again: new memory for each span costs more than copying its bytes. */
export class SharedMemory {
  /** Smallest first. */
  readonly #kept: SharedArrayBuffer[] = []

  /** Returns memory for a number of bytes, with any content. The caller gives it back when no thread reads it any more. */
  take(bytes: number): SharedBytes {
    const at = this.#kept.findIndex(({ byteLength }) => byteLength >= bytes)
    const [found] = at < 0 ? [] : this.#kept.splice(at, 1)
    const memory = found ?? new SharedArrayBuffer(Math.max(1, Math.ceil(bytes / UNIT_BYTES)) * UNIT_BYTES)
    return new Uint8Array(memory, 0, bytes)
  }

  /** Gives memory back. */
  give({ buffer }: SharedBytes): void {
    const at = this.#kept.findIndex(({ byteLength }) => byteLength >= buffer.byteLength)
    this.#kept.splice(at < 0 ? this.#kept.length : at, 0, buffer)
    if (this.#kept.length > MAX_KEPT) this.#kept.shift()
  }
}
