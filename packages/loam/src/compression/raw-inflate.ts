/*
 * The functions of zlib (zlib.h) that node:zlib does not offer: to stop at the blocks of a deflate stream, and to begin at one. They are those
 * of the zlib that Node contains, or is linked to. Used only if a trial shows that its z_stream has the layout below.
 */
import { deflateRawSync } from 'node:zlib'
import type * as Koffi from 'koffi'
import { loadKoffi } from '../linux/index.ts'
import { LoamError } from '../errors/index.ts'
import { callAside } from './inflaters.ts'

// Offsets in z_stream where pointers and long have 8 bytes.
const NEXT_IN = 0
const AVAILABLE_IN = 8
const NEXT_OUT = 24
const AVAILABLE_OUT = 32
const DATA_TYPE = 88
const STREAM_BYTES = 112

const Z_NO_FLUSH = 0
const Z_BLOCK = 5
const Z_STREAM_END = 1
const Z_BUF_ERROR = -5

/** The first digit counts: the library compares it with its own. */
const ZLIB_VERSION = '1'

/** Values of inflateInit2 for what a stream is wrapped in. */
const WINDOW_BITS = { gzip: 31, raw: -15 } as const

/** Size of deflate's window in bytes. */
export const WINDOW_BYTES = 32 << 10

interface Zlib {
  readonly start: (stream: Buffer, windowBits: number, version: string, streamBytes: number) => number
  readonly step: Koffi.KoffiFunc<(stream: Buffer, flush: number) => number>
  readonly end: (stream: Buffer) => number
  readonly reset: (stream: Buffer, windowBits: number) => number
  readonly prime: (stream: Buffer, bits: number, value: number) => number
  readonly setWindow: (stream: Buffer, window: Buffer, bytes: number) => number
  readonly getWindow: (stream: Buffer, window: Buffer, bytes: Buffer) => number
  readonly address: (bytes: Buffer) => bigint
}

let library: Zlib | false | undefined

/** Returns whether this Node exports its zlib, with the layout that is expected. */
export function hasRawInflate(): boolean {
  return loadZlib() !== undefined
}

function loadZlib(): Zlib | undefined {
  library ??= bind() ?? false
  return library === false ? undefined : library
}

function bind(): Zlib | undefined {
  try {
    const koffi = loadKoffi()
    const zlib = koffi.load(null)
    const bound: Zlib = {
      start: zlib.func(
        'int inflateInit2_(void *stream, int windowBits, const char *version, int streamBytes)',
      ) as Zlib['start'],
      step: zlib.func('int inflate(void *stream, int flush)') as Zlib['step'],
      end: zlib.func('int inflateEnd(void *stream)') as Zlib['end'],
      reset: zlib.func('int inflateReset2(void *stream, int windowBits)') as Zlib['reset'],
      prime: zlib.func('int inflatePrime(void *stream, int bits, int value)') as Zlib['prime'],
      setWindow: zlib.func(
        'int inflateSetDictionary(void *stream, const void *window, uint32_t bytes)',
      ) as Zlib['setWindow'],
      getWindow: zlib.func(
        'int inflateGetDictionary(void *stream, void *window, void *bytes)',
      ) as Zlib['getWindow'],
      address: (bytes) => koffi.address(bytes),
    }
    return isTrustworthy(bound) ? bound : undefined
  } catch {
    // This Node does not export it.
    return undefined
  }
}

function isTrustworthy(zlib: Zlib): boolean {
  const trial = createTrial(zlib)
  if (trial === undefined) return false
  using inflater = new RawInflate('raw', zlib)
  inflater.beginAt(trial.bytes, trial.bit, trial.window)
  const output = Buffer.alloc(trial.plain.length)
  inflater.inflate(output)
  return inflater.isAtEnd && output.equals(trial.plain)
}

/** The end of a stream, from a block on that begins within a byte. */
interface Trial {
  readonly bytes: Buffer
  readonly bit: number
  readonly window: Buffer
  readonly plain: Buffer
}

/** Creates a trial for whoever begins at a block, by inflating a stream up to there. Returns undefined if that fails. */
export function createTrial(zlib: Zlib | undefined = loadZlib()): Trial | undefined {
  const plain = Buffer.alloc(60_000)
  for (let index = 0; index < plain.length; index += 1)
    plain[index] = index % 7 === 0 ? (index * index) % 251 : index % 13
  const packed = deflateRawSync(plain, { memLevel: 1 })
  using whole = new RawInflate('raw', zlib)
  const output = Buffer.alloc(plain.length)
  whole.input(packed)
  let filled = 0
  while (filled < plain.length / 2 || whole.unusedBits === 0) {
    if (whole.isAtEnd) return undefined
    filled += whole.inflate(output.subarray(filled), { stopAtBlock: true })
  }
  if (!whole.isAtBlock || !output.subarray(0, filled).equals(plain.subarray(0, filled))) return undefined
  return {
    bytes: packed.subarray(packed.length - whole.leftBytes - 1),
    bit: 8 - whole.unusedBits,
    window: whole.window(),
    plain: plain.subarray(filled),
  }
}

/** One deflate stream, raw or in a gzip member. Not concurrent; dispose it. */
export class RawInflate implements Disposable {
  readonly #zlib: Zlib
  readonly #stream = Buffer.from(new ArrayBuffer(STREAM_BYTES))
  /** Keeps the memory that the library reads from. */
  #input: Buffer = Buffer.alloc(0)
  #isAtEnd = false

  /** @throws when `hasRawInflate` is false */
  constructor(wrapping: keyof typeof WINDOW_BITS, zlib: Zlib | undefined = loadZlib()) {
    if (zlib === undefined) throw new LoamError('INTERNAL', 'zlib is not here')
    this.#zlib = zlib
    this.#check(zlib.start(this.#stream, WINDOW_BITS[wrapping], ZLIB_VERSION, STREAM_BYTES))
  }

  /** Begins another stream, with the remaining input. */
  reset(wrapping: keyof typeof WINDOW_BITS): void {
    const { left } = this
    this.#check(this.#zlib.reset(this.#stream, WINDOW_BITS[wrapping]))
    this.#isAtEnd = false
    this.input(left)
  }

  /** Begins in a raw stream, at a block whose first byte is that of `input` and has `bit` bits of the block before. */
  beginAt(input: Buffer, bit: number, window: Buffer): void {
    this.reset('raw')
    if (bit > 0) this.#check(this.#zlib.prime(this.#stream, 8 - bit, (input[0] ?? 0) >> bit))
    if (window.length > 0) this.#check(this.#zlib.setWindow(this.#stream, window, window.length))
    this.input(input.subarray(bit > 0 ? 1 : 0))
  }

  /** Sets the next input; the previous one must be used up. It must not change until it is used up. */
  input(bytes: Buffer): void {
    this.#input = bytes
    this.#stream.writeBigUInt64LE(this.#zlib.address(bytes), NEXT_IN)
    this.#stream.writeUInt32LE(bytes.length, AVAILABLE_IN)
  }

  /** Whether the stream has ended. */
  get isAtEnd(): boolean {
    return this.#isAtEnd
  }

  get leftBytes(): number {
    return this.#stream.readUInt32LE(AVAILABLE_IN)
  }

  get left(): Buffer {
    return this.#input.subarray(this.#input.length - this.leftBytes)
  }

  /** Whether the next bit begins a block. */
  get isAtBlock(): boolean {
    const state = this.#stream.readInt32LE(DATA_TYPE)
    return !this.#isAtEnd && (state & 128) !== 0 && (state & 64) === 0
  }

  /** Bits of the last byte that was used that belong to what follows. */
  get unusedBits(): number {
    return this.#stream.readInt32LE(DATA_TYPE) & 7
  }

  /** Returns the last bytes of the output, which what follows may refer to. */
  window(): Buffer {
    const window = Buffer.alloc(WINDOW_BYTES)
    const bytes = Buffer.from(new ArrayBuffer(4))
    this.#check(this.#zlib.getWindow(this.#stream, window, bytes))
    return window.subarray(0, bytes.readUInt32LE(0))
  }

  /** Fills `target` from its start and returns the number of bytes; `stopAtBlock` also ends at the next block. @throws RangeError for damaged data */
  inflate(target: Buffer, { stopAtBlock = false }: { readonly stopAtBlock?: boolean } = {}): number {
    this.#aim(target)
    return this.#conclude(target, this.#zlib.step(this.#stream, stopAtBlock ? Z_BLOCK : Z_NO_FLUSH))
  }

  /** The same in another thread, without stops at blocks. No other method may be called meanwhile. */
  async inflateAside(target: Buffer): Promise<number> {
    this.#aim(target)
    return this.#conclude(target, await callAside(this.#zlib.step, this.#stream, Z_NO_FLUSH))
  }

  #aim(target: Buffer): void {
    this.#stream.writeBigUInt64LE(this.#zlib.address(target), NEXT_OUT)
    this.#stream.writeUInt32LE(target.length, AVAILABLE_OUT)
  }

  #conclude(target: Buffer, result: number): number {
    if (result !== Z_BUF_ERROR) this.#check(result)
    this.#isAtEnd = result === Z_STREAM_END
    return target.length - this.#stream.readUInt32LE(AVAILABLE_OUT)
  }

  #check(result: number): void {
    if (result < 0 || result > Z_STREAM_END) throw new RangeError(`invalid data (zlib ${result})`)
  }

  [Symbol.dispose](): void {
    this.#zlib.end(this.#stream)
    this.#input = Buffer.alloc(0)
  }
}
