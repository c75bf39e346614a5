import { constants, zstdCompressSync } from 'node:zlib'
import { isLoamError } from '../errors/index.ts'
import { TarReader } from '../tar/index.ts'
import { invalidIndex, SKELETON_FRAME_BYTES } from './format.ts'

const BLOCK = 512
/** Of the levels measured, the last that is faster than reading the blob. */
const LEVEL = 9

/**
 * Gathers the skeleton of a tar while the tar is read: all blocks but the data of files and what follows the end of the archive. The headers say how much
 * was left out, so that the skeleton needs no table.
 */
export class SkeletonWriter {
  readonly #reader: TarReader
  readonly #frames: Buffer[] = []
  readonly #frame = Buffer.allocUnsafeSlow(SKELETON_FRAME_BYTES)
  #filled = 0
  #tarBytes = 0
  /** Whether the block that is read is kept. */
  #isKept = true

  constructor(reader: TarReader) {
    this.#reader = reader
  }

  /** Passes the next bytes of the tar to the reader. @throws as `TarReader.write` */
  write(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      const inBlock = this.#tarBytes % BLOCK
      // Blocks are kept as a whole, however the tar is cut into pieces: with the padding of an extended header.
      if (inBlock === 0) this.#isKept = this.#reader.skippableBytes === 0
      const count = Math.min(this.#isKept ? BLOCK - inBlock : this.#reader.skippableBytes, chunk.length - at)
      if (this.#isKept) this.#take(chunk.subarray(at, at + count))
      else this.#reader.skip(count)
      at += count
      this.#tarBytes += count
    }
  }

  /** Passes over data of a file that is not at hand. @throws LAZY_INDEX_INVALID if something else has to follow */
  skip(bytes: number): void {
    const { skippableBytes } = this.#reader
    const isData = !this.#isKept || this.#tarBytes % BLOCK === 0
    if (!isData || bytes > skippableBytes || skippableBytes === Number.POSITIVE_INFINITY)
      throw invalidIndex(`there are no ${bytes} bytes of a file at ${this.#tarBytes}`)
    this.#isKept = false
    this.#reader.skip(bytes)
    this.#tarBytes += bytes
  }

  #take(bytes: Buffer): void {
    this.#reader.write(bytes)
    const copied = bytes.copy(this.#frame, this.#filled)
    this.#filled += copied
    if (this.#filled < this.#frame.length) return
    this.#endFrame()
    this.#filled = bytes.copy(this.#frame, 0, copied)
  }

  #endFrame(): void {
    const packed = zstdCompressSync(this.#frame.subarray(0, this.#filled), {
      params: { [constants.ZSTD_c_compressionLevel]: LEVEL },
    })
    const sizes = Buffer.alloc(8)
    sizes.writeUInt32LE(packed.length, 0)
    sizes.writeUInt32LE(this.#filled, 4)
    this.#frames.push(sizes, packed)
    this.#filled = 0
  }

  /** Returns the packed skeleton. The caller has ended the reader. */
  end(): Buffer {
    if (this.#filled > 0) this.#endFrame()
    return Buffer.concat(this.#frames)
  }
}

/** A piece of a skeleton, and its place in the tar. */
export interface SkeletonPiece {
  readonly tarStart: number
  readonly bytes: Buffer
}

/**
 * Reads a skeleton with a reader of the tar, as if the reader had read the whole tar, and yields its pieces where the tar has them. @throws
 * LAZY_INDEX_INVALID if the skeleton is not that of a tar of this size; TAR_INVALID, LAYER_LIMIT, and the errors of the reader's `onEntry`
 */
export function* readSkeleton(
  pieces: Iterable<Buffer>,
  tarBytes: number,
  reader: TarReader,
): Generator<SkeletonPiece> {
  let at = 0
  for (const piece of pieces) {
    for (let used = 0; used < piece.length; ) {
      if (reader.skippableBytes === Number.POSITIVE_INFINITY)
        throw invalidIndex('the skeleton goes on after the end of the tar')
      const count = Math.min(BLOCK - (at % BLOCK), piece.length - used)
      const bytes = piece.subarray(used, used + count)
      if (at + count > tarBytes)
        throw invalidIndex(`the skeleton is that of a tar of more than ${tarBytes} bytes`)
      reader.write(bytes)
      yield { tarStart: at, bytes }
      used += count
      at += count
      if (at % BLOCK === 0) at += skipData(reader)
    }
  }
  const isEnded = reader.skippableBytes === Number.POSITIVE_INFINITY
  reader.end()
  if (isEnded ? at > tarBytes : at !== tarBytes)
    throw invalidIndex(`the skeleton is that of a tar of ${at} bytes, not of ${tarBytes}`)
}

/** Returns whether a skeleton is that of a tar, of which `read` returns the bytes at a place. @throws the errors of `read` */
export function isSkeletonOf(
  pieces: Iterable<Buffer>,
  tarBytes: number,
  read: (tarStart: number, lengthBytes: number) => Buffer,
): boolean {
  const skeleton = readSkeleton(pieces, tarBytes, new TarReader(() => undefined))
  try {
    for (const { tarStart, bytes } of skeleton) if (!read(tarStart, bytes.length).equals(bytes)) return false
    return true
  } catch (error) {
    if (isLoamError(error, 'LAZY_INDEX_INVALID', 'TAR_INVALID', 'TAR_UNSAFE', 'LAYER_LIMIT')) return false
    throw error
  }
}

/** Returns the number of bytes that the skeleton has left out here. */
function skipData(reader: TarReader): number {
  const bytes = reader.skippableBytes
  if (bytes === Number.POSITIVE_INFINITY) return 0
  reader.skip(bytes)
  return bytes
}
