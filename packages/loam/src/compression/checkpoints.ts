import { RawInflate, WINDOW_BYTES } from './raw-inflate.ts'
import type { Inflater, Packing } from './inflaters.ts'
import { ZstdInflater } from './zstd.ts'

/** A place in a blob where decompression can begin. */
export interface Checkpoint {
  /** First byte of the blob that is needed. */
  readonly blobStart: number
  /** Bits of that byte that belong to the block before. */
  readonly bit: number
  /** Place of the first decompressed byte. */
  readonly tarStart: number
}

/** The bytes before a checkpoint, and the beginning of its span: enough to find out which of the bytes are needed. */
export interface WindowSample {
  /** Empty where a member or a frame begins. */
  readonly window: Buffer
  readonly bit: number
  /** The span's first compressed bytes, or more; empty if it would take too many of them to fill a window. */
  readonly bytes: Buffer
  /** The span's first decompressed bytes: those that may refer to the window. */
  readonly plain: Buffer
}

/** Takes what is found while a blob is decompressed. */
export interface CheckpointSink {
  /** Decompressed bytes between two checkpoints, at least; about half of that where a member or a frame begins. */
  readonly spanBytes: number
  /** Called with the compression of the blob, before all else. */
  readonly onPacking: (packing: Packing) => void
  /** Called when a checkpoint is found, before the bytes that follow it are passed on. They are in order, the first at the start of the tar. */
  readonly onCheckpoint: (point: Checkpoint) => void
  /** Called once for each checkpoint of a gzip blob, in order, at the latest with the next checkpoint or `end`. */
  readonly onWindow: (sample: WindowSample) => void
}

const GZIP_MAGIC = 0x1f
/** A span that begins with more than this for one window is an odd one: its whole window is kept. */
const MAX_SAMPLE_BYTES = 1 << 20

/** Inflates gzip members, and finds checkpoints at their blocks. */
export class GzipCheckpoints implements Inflater {
  readonly #sink: CheckpointSink
  readonly #inflate = new RawInflate('gzip')
  /** Place in the blob of the input's end. */
  #inputEnd = 0
  #input: Buffer = Buffer.alloc(0)
  /** Last bytes of the input and of the one before, whose memory may be gone: the first bits of a block may be in them. */
  #lastBytes: readonly Buffer[] = []
  #tarBytes = 0
  #spanStart: number | undefined
  #isMemberStart = true
  #sampler: Sampler | undefined

  constructor(sink: CheckpointSink) {
    this.#sink = sink
  }

  isPadding(byte: number): boolean {
    return byte !== GZIP_MAGIC
  }

  input(bytes: Buffer): void {
    this.#inputEnd += bytes.length
    this.#input = bytes
    if (bytes.length > 0) this.#lastBytes = [...this.#lastBytes.slice(-1), Buffer.from(bytes.subarray(-1))]
    this.#inflate.input(bytes)
    this.#sampler?.addInput(bytes)
    // Not before: a library that decodes several bytes at a time wants input beyond the last one.
    if (this.#sampler?.isFull === true) this.#endSample()
  }

  get isAtEnd(): boolean {
    return this.#inflate.isAtEnd
  }

  get leftBytes(): number {
    return this.#inflate.leftBytes
  }

  get left(): Buffer {
    return this.#inflate.left
  }

  nextMember(): void {
    this.#inflate.reset('gzip')
    this.#isMemberStart = true
  }

  inflate(target: Buffer): number {
    let filled = 0
    for (let isStuck = false; !isStuck && filled < target.length && !this.isAtEnd; ) {
      const before = this.leftBytes
      const stopAtBlock = this.#isDue
      const bytes = this.#inflate.inflate(this.#aim(target, filled), { stopAtBlock })
      this.#conclude(target, filled, bytes)
      filled += bytes
      isStuck = bytes === 0 && this.leftBytes === before
    }
    return filled
  }

  async inflateAside(target: Buffer): Promise<number> {
    let filled = 0
    for (let isStuck = false; !isStuck && filled < target.length && !this.isAtEnd; ) {
      const before = this.leftBytes
      const part = this.#aim(target, filled)
      // Blocks are small: handing one over takes longer than inflating it.
      const bytes = this.#isDue
        ? this.#inflate.inflate(part, { stopAtBlock: true })
        : await this.#inflate.inflateAside(part)
      this.#conclude(target, filled, bytes)
      filled += bytes
      isStuck = bytes === 0 && this.leftBytes === before
    }
    return filled
  }

  /** Whether the next block is a checkpoint. */
  get #isDue(): boolean {
    if (this.#spanStart === undefined) return true
    const bytes = this.#tarBytes - this.#spanStart
    // A member needs no window: worth a shorter span.
    return bytes >= this.#sink.spanBytes / (this.#isMemberStart ? 2 : 1)
  }

  /** Ends where the next checkpoint becomes due: blocks that are passed over cost nothing. */
  #aim(target: Buffer, filled: number): Buffer {
    if (this.#isDue) return target.subarray(filled)
    const wanted = (this.#spanStart ?? 0) + this.#sink.spanBytes - this.#tarBytes
    return target.subarray(filled, filled + Math.ceil(wanted))
  }

  #conclude(target: Buffer, filled: number, bytes: number): void {
    const wasDue = this.#isDue
    this.#tarBytes += bytes
    if (bytes > 0) {
      this.#isMemberStart = false
      this.#sampler?.addOutput(target.subarray(filled, filled + bytes))
    }
    if (wasDue && this.#inflate.isAtBlock && this.#isDue) this.#begin()
  }

  #begin(): void {
    this.#endSample()
    const { unusedBits, leftBytes } = this.#inflate
    const bit = unusedBits > 0 ? 8 - unusedBits : 0
    const blobStart = this.#inputEnd - leftBytes - (bit > 0 ? 1 : 0)
    this.#sink.onCheckpoint({ blobStart, bit, tarStart: this.#tarBytes })
    this.#spanStart = this.#tarBytes
    const window = this.#isMemberStart ? Buffer.alloc(0) : this.#inflate.window()
    this.#sampler = new Sampler(window, bit)
    if (bit > 0) this.#sampler.addInput(this.#lastUsedByte())
    this.#sampler.addInput(this.#inflate.left)
    this.#isMemberStart = false
  }

  #lastUsedByte(): Buffer {
    const used = this.#input.length - this.#inflate.leftBytes
    return used > 0 ? this.#input.subarray(used - 1, used) : (this.#lastBytes[0] ?? Buffer.alloc(0))
  }

  #endSample(): void {
    const sampler = this.#sampler
    this.#sampler = undefined
    if (sampler !== undefined) this.#sink.onWindow(sampler.sample())
  }

  /** Reports the last window. */
  [Symbol.dispose](): void {
    this.#endSample()
    this.#inflate[Symbol.dispose]()
    this.#input = Buffer.alloc(0)
  }
}

/** Gathers the beginning of a span. */
class Sampler {
  readonly #window: Buffer
  readonly #bit: number
  readonly #input: Buffer[] = []
  readonly #plain: Buffer
  #inputBytes = 0
  #plainBytes = 0

  constructor(window: Buffer, bit: number) {
    this.#window = window
    this.#bit = bit
    this.#plain = Buffer.alloc(window.length === 0 ? 0 : WINDOW_BYTES)
  }

  addInput(bytes: Buffer): void {
    if (this.#window.length === 0) return
    this.#inputBytes += bytes.length
    if (this.#inputBytes <= MAX_SAMPLE_BYTES) this.#input.push(Buffer.from(bytes))
    else this.#input.length = 0
  }

  addOutput(bytes: Buffer): void {
    this.#plainBytes += bytes.copy(this.#plain, this.#plainBytes)
  }

  /** Whether no more is needed. */
  get isFull(): boolean {
    return this.#plainBytes === this.#plain.length
  }

  sample(): WindowSample {
    const plain = this.#plain.subarray(0, this.#plainBytes)
    return { window: this.#window, bit: this.#bit, bytes: Buffer.concat(this.#input), plain }
  }
}

/** Decompresses zstd frames, and finds checkpoints where they begin. */
export class ZstdCheckpoints implements Inflater {
  readonly #sink: CheckpointSink
  readonly #inflate = new ZstdInflater()
  /** Place in the blob of the input's end. */
  #inputEnd = 0
  #tarBytes = 0
  #spanStart: number | undefined

  constructor(sink: CheckpointSink) {
    this.#sink = sink
  }

  isPadding(): boolean {
    return false
  }

  input(bytes: Buffer): void {
    this.#inflate.input(bytes)
    this.#inputEnd += bytes.length
    if (this.#spanStart === undefined) this.#begin()
  }

  get isAtEnd(): boolean {
    return this.#inflate.isAtEnd
  }

  get leftBytes(): number {
    return this.#inflate.leftBytes
  }

  get left(): Buffer {
    return this.#inflate.left
  }

  nextMember(): void {
    this.#inflate.nextMember()
    if (this.#tarBytes - (this.#spanStart ?? 0) >= this.#sink.spanBytes / 2) this.#begin()
  }

  inflate(target: Buffer): number {
    const bytes = this.#inflate.inflate(target)
    this.#tarBytes += bytes
    return bytes
  }

  async inflateAside(target: Buffer): Promise<number> {
    const bytes = await this.#inflate.inflateAside(target)
    this.#tarBytes += bytes
    return bytes
  }

  #begin(): void {
    this.#sink.onCheckpoint({ blobStart: this.#inputEnd - this.leftBytes, bit: 0, tarStart: this.#tarBytes })
    this.#spanStart = this.#tarBytes
  }

  [Symbol.dispose](): void {
    this.#inflate[Symbol.dispose]()
  }
}

/** Passes on the bytes of a blob that is not compressed: decompression can begin anywhere. */
export async function* plainCheckpoints(
  source: AsyncIterable<Buffer>,
  sink: CheckpointSink,
): AsyncGenerator<Buffer> {
  let start = 0
  let nextPoint = 0
  for await (const chunk of source) {
    for (; nextPoint < start + chunk.length; nextPoint += sink.spanBytes)
      sink.onCheckpoint({ blobStart: nextPoint, bit: 0, tarStart: nextPoint })
    start += chunk.length
    yield chunk
  }
}
