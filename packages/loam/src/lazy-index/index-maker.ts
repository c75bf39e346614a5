import { createHash } from 'node:crypto'
import type { Checkpoint, CheckpointSink, Packing, WindowSample } from '../compression/index.ts'
import { LoamError } from '../errors/index.ts'
import type { TarReader } from '../tar/index.ts'
import { MAX_SPAN_BYTES, SPAN_BYTES } from './format.ts'
import { SkeletonWriter } from './skeleton.ts'
import { sparseWindow } from './sparse-window.ts'
import type { BlobAccess, IndexedBlob } from './types.ts'
import { formatIndex, type MadeSpan, pack } from './write-index.ts'

const EMPTY = Buffer.alloc(0)

/**
 * Makes the lazy index of a blob while the blob is decompressed: it takes the checkpoints from `decompress`, and the bytes of the tar in their order. Holds
 * the packed skeleton and windows, and the points.
 */
export class LazyIndexMaker implements CheckpointSink {
  readonly spanBytes: number
  readonly #maxSpanBytes: number
  readonly #skeleton: SkeletonWriter
  readonly #spans: MadeSpan[] = []
  readonly #windows: Buffer[] = []
  /** Checkpoints beyond the bytes that were written. */
  readonly #ahead: Checkpoint[] = []
  #packing: Packing | undefined
  #access: BlobAccess = 'random'
  #hash = createHash('sha256')
  #pieces: PieceSums | undefined
  #tarBytes = 0

  /** `reader` reads the tar: it gets the bytes that are written here. */
  constructor(
    reader: TarReader,
    options: { readonly spanBytes?: number; readonly maxSpanBytes?: number } = {},
  ) {
    this.#skeleton = new SkeletonWriter(reader)
    this.spanBytes = options.spanBytes ?? SPAN_BYTES
    this.#maxSpanBytes = options.maxSpanBytes ?? MAX_SPAN_BYTES
  }

  onPacking(packing: Packing): void {
    this.#packing = packing
  }

  onCheckpoint(point: Checkpoint): void {
    this.#ahead.push(point)
  }

  onWindow(sample: WindowSample): void {
    if (this.#access === 'sequential') return
    const window = sparseWindow(sample)
    this.#windows.push(window.length === 0 ? EMPTY : pack(window))
  }

  /** Takes the next bytes of the tar. @throws as `TarReader.write` */
  write(chunk: Buffer): void {
    this.#skeleton.write(chunk)
    for (let at = 0; at < chunk.length; ) {
      this.#beginSpans()
      const count = Math.min(this.#untilNext(), chunk.length - at)
      this.#hash.update(chunk.subarray(at, at + count))
      this.#pieces?.update(chunk.subarray(at, at + count))
      at += count
      this.#tarBytes += count
    }
  }

  #beginSpans(): void {
    for (let [next] = this.#ahead; next?.tarStart === this.#tarBytes; [next] = this.#ahead) {
      this.#ahead.shift()
      this.#begin(next)
    }
    if (this.#tarBytes < this.#maxEnd) return
    // A span ends here though nothing can begin here: the blob can be read from its start only.
    this.#access = 'sequential'
    this.#windows.length = 0
    this.#begin({ blobStart: 0, bit: 0, tarStart: this.#tarBytes })
    this.#pieces = undefined
  }

  #begin(point: Checkpoint): void {
    this.#endSpan()
    this.#spans.push({ point, sum: EMPTY })
    // Most zstd blobs are one frame: then a reader must not have to wait for all of a large span.
    const isFrame = this.#packing === 'zstd' && this.#access === 'random'
    if (isFrame) this.#pieces = new PieceSums(point.tarStart, this.spanBytes)
  }

  #endSpan(): void {
    const last = this.#spans.at(-1)
    if (last === undefined) return
    last.sum = this.#hash.digest()
    this.#hash = createHash('sha256')
    if (this.#access === 'random' || this.#pieces === undefined) return
    this.#spans.pop()
    for (const { tarStart, sum } of this.#pieces.end())
      this.#spans.push({ point: { blobStart: 0, bit: 0, tarStart }, sum })
  }

  /** Bytes to the next checkpoint, or to where a span would be too large. */
  #untilNext(): number {
    const next = this.#ahead[0]?.tarStart ?? Number.POSITIVE_INFINITY
    return Math.min(next, this.#maxEnd) - this.#tarBytes
  }

  /** Where the last span has to end. */
  get #maxEnd(): number {
    const start = this.#spans.at(-1)?.point.tarStart ?? 0
    return start + (this.#access === 'random' ? this.#maxSpanBytes : this.spanBytes)
  }

  /**
   * Returns the index; undefined if blobs of this compression have none. The caller has verified what it is the index of, and has ended the reader.
   */
  end(of: IndexedBlob): Buffer[] | undefined {
    const packing = this.#packing
    if (packing === 'xz' || packing === 'bzip2' || packing === undefined) return undefined
    if (of.tarBytes !== this.#tarBytes)
      throw new LoamError(
        'INTERNAL',
        `make lazy index of ${of.blob.digest}: ${this.#tarBytes} bytes were written`,
      )
    this.#endSpan()
    this.#checkBlobSizes(of.blob.sizeBytes)
    return formatIndex(
      of,
      { packing, access: this.#access, spans: this.#spans, windows: this.#windows },
      this.#skeleton.end(),
    )
  }

  #checkBlobSizes(blobBytes: number): void {
    const starts = [...this.#spans.map(({ point }) => point.blobStart), blobBytes]
    const isLarge = starts.some((start, index) => start - (starts[index - 1] ?? 0) > this.#maxSpanBytes)
    if (isLarge) this.#access = 'sequential'
  }
}

/** Sums of the parts of a span, for the case that it becomes too large to be one. */
class PieceSums {
  readonly #pieceBytes: number
  readonly #pieces: { readonly tarStart: number; readonly sum: Buffer }[] = []
  #start: number
  #bytes = 0
  #hash = createHash('sha256')

  constructor(tarStart: number, pieceBytes: number) {
    this.#start = tarStart
    this.#pieceBytes = pieceBytes
  }

  update(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const count = Math.min(this.#pieceBytes - this.#bytes, bytes.length - at)
      this.#hash.update(bytes.subarray(at, at + count))
      this.#bytes += count
      at += count
      if (this.#bytes === this.#pieceBytes) this.#endPiece()
    }
  }

  #endPiece(): void {
    this.#pieces.push({ tarStart: this.#start, sum: this.#hash.digest() })
    this.#start += this.#bytes
    this.#bytes = 0
    this.#hash = createHash('sha256')
  }

  end(): readonly { readonly tarStart: number; readonly sum: Buffer }[] {
    if (this.#bytes > 0) this.#endPiece()
    return this.#pieces
  }
}
