/*
 * Decompresses zstd with the library (zstd.h) that Node contains and exports. Called directly, since Node's streams pass each piece to another
 * thread and back, which costs more than the decompression. The system's libzstd cannot be used: its calls to itself would reach Node's copy.
 */
import type * as Koffi from 'koffi'
import { loadKoffi } from '../linux/index.ts'
import { LoamError } from '../errors/index.ts'
import { callAside, type Inflater } from './inflaters.ts'

/** Limit of memory for a frame: 128 MiB, which `zstd --long` needs at most. */
export const ZSTD_WINDOW_LOG_MAX = 27

// ZSTD_inBuffer and ZSTD_outBuffer are a pointer, a size and a position.
const BUFFER_BYTES = 24
const SIZE = 8
const POSITION = 16
/** ZSTD_d_windowLogMax */
const WINDOW_LOG_MAX = 100
const FRAME_MAGIC = 0x28
/** The last four bits may have any value. */
const SKIPPABLE_MAGIC = 0x50

/** A size, or an error if it is larger than any size. */
type Result = number | bigint
type Step = Koffi.KoffiFunc<(context: unknown, output: Buffer, input: Buffer) => Result>

interface Zstd {
  readonly create: () => unknown
  readonly free: (context: unknown) => void
  readonly setParameter: (context: unknown, parameter: number, value: number) => Result
  readonly step: Step
  readonly isError: (result: Result) => number
  readonly errorName: (result: Result) => string
  readonly address: (bytes: Buffer) => bigint
}

let library: Zstd | false | undefined

/** Returns whether this Node exports it. */
export function hasZstd(): boolean {
  return loadZstd() !== undefined
}

function loadZstd(): Zstd | undefined {
  library ??= bind() ?? false
  return library === false ? undefined : library
}

function bind(): Zstd | undefined {
  try {
    const koffi = loadKoffi()
    const zstd = koffi.load(null)
    return {
      create: zstd.func('void *ZSTD_createDCtx(void)') as Zstd['create'],
      free: zstd.func('size_t ZSTD_freeDCtx(void *context)') as Zstd['free'],
      setParameter: zstd.func(
        'size_t ZSTD_DCtx_setParameter(void *context, int parameter, int value)',
      ) as Zstd['setParameter'],
      step: zstd.func('size_t ZSTD_decompressStream(void *context, void *output, void *input)') as Step,
      isError: zstd.func('uint32_t ZSTD_isError(size_t result)') as Zstd['isError'],
      errorName: zstd.func('const char *ZSTD_getErrorName(size_t result)') as Zstd['errorName'],
      address: (bytes) => koffi.address(bytes),
    }
  } catch {
    return undefined
  }
}

/** One stream of zstd frames and skippable frames. Give it input, and take output until it is empty; then give it more. */
export class ZstdInflater implements Inflater {
  readonly #zstd: Zstd
  readonly #context: unknown
  readonly #in = Buffer.from(new ArrayBuffer(BUFFER_BYTES))
  readonly #out = Buffer.from(new ArrayBuffer(BUFFER_BYTES))
  /** Keeps the memory that the library reads from. */
  #input: Buffer = Buffer.alloc(0)
  #isAtEnd = false

  /** @throws when `hasZstd` is false */
  constructor(zstd: Zstd | undefined = loadZstd()) {
    if (zstd === undefined) throw new LoamError('INTERNAL', 'zstd is not here')
    this.#zstd = zstd
    this.#context = zstd.create()
    this.#check(zstd.setParameter(this.#context, WINDOW_LOG_MAX, ZSTD_WINDOW_LOG_MAX))
  }

  /** Only frames may follow a frame; `nextMember` checks it. */
  isPadding(): boolean {
    return false
  }

  /** Sets the next input; the previous one must be used up. It must not change until it is used up. */
  input(bytes: Buffer): void {
    this.#input = bytes
    point(this.#in, this.#zstd.address(bytes), bytes.length)
  }

  /** Whether a frame has ended. */
  get isAtEnd(): boolean {
    return this.#isAtEnd
  }

  get leftBytes(): number {
    return this.#input.length - Number(this.#in.readBigUInt64LE(POSITION))
  }

  get left(): Buffer {
    return this.#input.subarray(this.#input.length - this.leftBytes)
  }

  /** Begins the next frame with the remaining input. A library may also read formats from before zstd 1. @throws RangeError if it is not a frame */
  nextMember(): void {
    const [first = 0] = this.left
    if (first !== FRAME_MAGIC && (first & 0xf0) !== SKIPPABLE_MAGIC)
      throw new RangeError('something that is not zstd follows a zstd frame')
    this.#isAtEnd = false
  }

  /** Fills `target` from its start and returns the number of bytes. @throws RangeError for damaged data */
  inflate(target: Buffer): number {
    if (this.#isAtEnd) return 0
    this.#aim(target)
    return this.#conclude(this.#zstd.step(this.#context, this.#out, this.#in))
  }

  /** The same in another thread. No other method may be called meanwhile. */
  async inflateAside(target: Buffer): Promise<number> {
    if (this.#isAtEnd) return 0
    this.#aim(target)
    return this.#conclude(await callAside(this.#zstd.step, this.#context, this.#out, this.#in))
  }

  #aim(target: Buffer): void {
    point(this.#out, this.#zstd.address(target), target.length)
  }

  #conclude(result: Result): number {
    this.#check(result)
    this.#isAtEnd = Number(result) === 0
    return Number(this.#out.readBigUInt64LE(POSITION))
  }

  #check(result: Result): void {
    if (this.#zstd.isError(result) !== 0)
      throw new RangeError(`invalid data (zstd: ${this.#zstd.errorName(result)})`)
  }

  [Symbol.dispose](): void {
    this.#zstd.free(this.#context)
    this.#input = Buffer.alloc(0)
  }
}

function point(buffer: Buffer, address: bigint, bytes: number): void {
  buffer.writeBigUInt64LE(address, 0)
  buffer.writeBigUInt64LE(BigInt(bytes), SIZE)
  buffer.writeBigUInt64LE(0n, POSITION)
}
