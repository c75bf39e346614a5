/*
 * Splits a zstd stream into its frames by reading only headers (RFC 8878):
 *   frame      magic FD2FB528 | descriptor 1 | window 0-1 | dictionary 0-4 | content size 0-8 | blocks | checksum 0 or 4
 *   block      header 3: last 1 bit, type 2 bits, size 21 bits | size bytes, or one for a run
 *   skippable  magic 184D2A5x | size 4 | size bytes
 */
import { LoamError } from '../errors/index.ts'

const MAGIC = 0xfd2fb528
const SKIPPABLE = 0x184d2a50
const BLOCK_RUN = 1
const BLOCK_RESERVED = 3

/** Yields the frames of a stream, each as its bytes; skippable ones are left out. A frame must be read to its end before the next. @throws COMPRESSION_INVALID */
export async function* zstdFrames(source: AsyncIterable<Buffer>): AsyncGenerator<AsyncGenerator<Buffer>> {
  const input = new Input(source)
  while (await input.fill(1)) {
    await input.need(4)
    const magic = input.peek(4).readUInt32LE(0)
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) await skip(input)
    else if (magic === MAGIC) yield frame(input)
    else
      throw new LoamError(
        'COMPRESSION_INVALID',
        'decompress layer: something that is not zstd follows a zstd frame',
      )
  }
}

async function skip(input: Input): Promise<void> {
  await input.need(8)
  const size = input.take(8).readUInt32LE(4)
  for await (const _bytes of input.pass(size)) {
    // Its content is for other tools: zstd:chunked keeps a table there.
  }
}

async function* frame(input: Input): AsyncGenerator<Buffer> {
  await input.need(5)
  const descriptor = input.peek(5)[4] ?? 0
  const isSingleSegment = (descriptor & 0x20) !== 0
  const hasChecksum = (descriptor & 4) !== 0
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0
  const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  const headerBytes = 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes + contentSizeBytes
  await input.need(headerBytes)
  yield input.take(headerBytes)
  let isLast = false
  while (!isLast) {
    await input.need(3)
    const header = input.peek(3).readUIntLE(0, 3)
    const type = (header >> 1) & 3
    if (type === BLOCK_RESERVED)
      throw new LoamError('COMPRESSION_INVALID', 'decompress layer: malformed zstd block')
    yield* input.pass(3 + (type === BLOCK_RUN ? 1 : header >> 3))
    isLast = (header & 1) === 1
  }
  if (hasChecksum) yield* input.pass(4)
}

class Input {
  readonly #iterator: AsyncIterator<Buffer>
  #buffer: Buffer = Buffer.alloc(0)

  constructor(source: AsyncIterable<Buffer>) {
    this.#iterator = source[Symbol.asyncIterator]()
  }

  /** Collects at least this many bytes; returns false if the stream ends before. */
  async fill(bytes: number): Promise<boolean> {
    while (this.#buffer.length < bytes) {
      const next = await this.#iterator.next()
      if (next.done === true) return false
      this.#buffer = this.#buffer.length === 0 ? next.value : Buffer.concat([this.#buffer, next.value])
    }
    return true
  }

  async need(bytes: number): Promise<void> {
    if (!(await this.fill(bytes))) {
      throw new LoamError('COMPRESSION_INVALID', 'decompress layer: the zstd stream is cut off')
    }
  }

  peek(bytes: number): Buffer {
    return this.#buffer.subarray(0, bytes)
  }

  take(bytes: number): Buffer {
    const taken = this.#buffer.subarray(0, bytes)
    this.#buffer = this.#buffer.subarray(bytes)
    return taken
  }

  async *pass(bytes: number): AsyncGenerator<Buffer> {
    let left = bytes
    while (left > 0) {
      await this.need(1)
      const part = this.take(Math.min(left, this.#buffer.length))
      left -= part.length
      yield part
    }
  }
}
