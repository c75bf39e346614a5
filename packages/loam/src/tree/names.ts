/** Bytes in one growing block of memory. A name is a start and a length in it, so that it costs its bytes and no object. */
export class ByteArena {
  #bytes = Buffer.from(new ArrayBuffer(4096))
  #used = 0

  /** Bytes in use. */
  get usedBytes(): number {
    return this.#used
  }

  /** Bytes allocated. */
  get heldBytes(): number {
    return this.#bytes.length
  }

  /** Appends bytes, which may be a view of this arena, and returns where they start. Amortised constant time. */
  add(bytes: Buffer): number {
    const start = this.#used
    const isFull = start + bytes.length > this.#bytes.length
    // Growing invalidates all views.
    const source = isFull && bytes.buffer === this.#bytes.buffer ? Buffer.from(bytes) : bytes
    if (isFull) this.#grow(start + bytes.length)
    source.copy(this.#bytes, start)
    this.#used += bytes.length
    return start
  }

  /** Returns a view that is valid until the next `add`. */
  view(start: number, length: number): Buffer {
    return this.#bytes.subarray(start, start + length)
  }

  /** Returns whether the bytes at `start` are these. */
  equals(start: number, bytes: Buffer): boolean {
    return bytes.compare(this.#bytes, start, start + bytes.length) === 0
  }

  /** Copies bytes into `target` and returns how many. */
  copyTo(target: Buffer, start: number, length: number): number {
    return this.#bytes.copy(target, 0, start, start + length)
  }

  #grow(needed: number): void {
    const size = Math.max(needed, Math.ceil(this.#bytes.length * 1.5))
    // transfer lets the kernel move pages (mremap) instead of copying them.
    const { buffer } = this.#bytes
    this.#bytes = Buffer.from(buffer.transfer(size))
  }
}
