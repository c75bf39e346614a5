/*
 * Decompresses xz and bzip2 with liblzma 5 (lzma/base.h) and libbz2 1.0 (bzlib.h), which every Debian has: dpkg needs them.
 */
import type * as Koffi from 'koffi'
import { loadKoffi } from '../linux/index.ts'
import { LoamError } from '../errors/index.ts'

/** The compression of a blob, which its first bytes show. */
export type Packing = 'gzip' | 'zstd' | 'xz' | 'bzip2' | 'none'

/** One compressed stream, of one or more members. Give it input, and take output until it is empty; then give it more. */
export interface Inflater extends Disposable {
  /** Whether a byte after a member cannot begin another one: then only zeros may follow. */
  readonly isPadding: (byte: number) => boolean
  /** Sets the next input; the previous one must be used up. It must not change until it is used up. */
  readonly input: (bytes: Buffer) => void
  /** Whether a member has ended. */
  readonly isAtEnd: boolean
  /** Bytes of the input that are not used yet. */
  readonly leftBytes: number
  readonly left: Buffer
  /** Begins the next member with the remaining input. @throws RangeError for data that cannot begin a member */
  readonly nextMember: () => void
  /** Fills `target` from its start and returns the number of bytes; fewer than its size if more input is needed or the member has ended. @throws RangeError for damaged data */
  readonly inflate: (target: Buffer) => number
  /** The same in another thread. No other method may be called meanwhile. */
  readonly inflateAside: (target: Buffer) => Promise<number>
}

/** Calls a function of a library in a thread of Node's pool. The caller keeps the memory that the library works on. */
export async function callAside<A extends unknown[], R>(
  act: Koffi.KoffiFunc<(...args: A) => R>,
  ...args: A
): Promise<R> {
  const { promise, resolve, reject } = Promise.withResolvers<R>()
  act.async(...args, (error: unknown, result: R) => {
    if (error === null || error === undefined) resolve(result)
    else reject(error instanceof Error ? error : new Error('a call in another thread failed'))
  })
  return promise
}

type LibraryName = 'xz' | 'bzip2'

// Common fields of both streams: next_in first, then these.
const AVAILABLE_IN = 8
const NEXT_OUT = 24
const AVAILABLE_OUT = 32

/** The functions of a library and their results. */
interface Binding {
  readonly magic: number
  /** Size of the counters in bytes. */
  readonly width: 4 | 8
  readonly structBytes: number
  readonly endResult: number
  readonly start: (state: Buffer) => number
  readonly step: Koffi.KoffiFunc<(state: Buffer, ...more: number[]) => number>
  /** Further arguments of the step. */
  readonly stepArguments: readonly number[]
  readonly end: (state: Buffer) => void
  readonly isFailure: (result: number) => boolean
  readonly address: (bytes: Buffer) => bigint
}

/** Limit of memory for a stream: `xz -9` needs 65 MiB. */
const XZ_MEMORY_BYTES = 256n << 20n
const LZMA_RUN = 0
const LZMA_STREAM_END = 1
const LZMA_BUF_ERROR = 10
const BZ_STREAM_END = 4

const bindings = new Map<LibraryName, Binding>()

function bind(name: LibraryName): Binding {
  const known = bindings.get(name)
  if (known !== undefined) return known
  const file = name === 'xz' ? 'liblzma.so.5' : 'libbz2.so.1.0'
  try {
    const koffi = loadKoffi()
    const made = name === 'xz' ? bindXz(koffi, koffi.load(file)) : bindBzip2(koffi, koffi.load(file))
    bindings.set(name, made)
    return made
  } catch (error) {
    throw new LoamError('UNSUPPORTED_SYSTEM', `unpack ${name}: ${file} cannot be loaded`, {
      cause: error,
      hint: `Install it (Debian: ${name === 'xz' ? 'liblzma5' : 'libbz2-1.0'}).`,
    })
  }
}

function bindXz(koffi: typeof Koffi, library: ReturnType<typeof Koffi.load>): Binding {
  const decoder = library.func('int lzma_stream_decoder(void *stream, uint64_t memory, uint32_t flags)')
  return {
    magic: 0xfd,
    width: 8,
    structBytes: 136,
    endResult: LZMA_STREAM_END,
    start: (state) => decoder(state, XZ_MEMORY_BYTES, 0) as number,
    step: library.func('int lzma_code(void *stream, int action)') as Binding['step'],
    stepArguments: [LZMA_RUN],
    end: library.func('void lzma_end(void *stream)') as Binding['end'],
    isFailure: (result) => result > LZMA_STREAM_END && result !== LZMA_BUF_ERROR,
    address: (bytes) => koffi.address(bytes),
  }
}

function bindBzip2(koffi: typeof Koffi, library: ReturnType<typeof Koffi.load>): Binding {
  const init = library.func('int BZ2_bzDecompressInit(void *stream, int verbosity, int small)')
  const end = library.func('int BZ2_bzDecompressEnd(void *stream)')
  return {
    magic: 0x42,
    width: 4,
    structBytes: 80,
    endResult: BZ_STREAM_END,
    start: (state) => init(state, 0, 0) as number,
    step: library.func('int BZ2_bzDecompress(void *stream)') as Binding['step'],
    stepArguments: [],
    end: (state) => {
      end(state)
    },
    isFailure: (result) => result < 0,
    address: (bytes) => koffi.address(bytes),
  }
}

/** Creates an inflater for one stream. @throws UNSUPPORTED_SYSTEM if the library is not installed */
export function openInflater(name: LibraryName): Inflater {
  return new LibraryInflater(name, bind(name))
}

class LibraryInflater implements Inflater {
  readonly #name: LibraryName
  readonly #binding: Binding
  readonly #state: Buffer
  /** Keeps the memory that the library reads from. */
  #input: Buffer = Buffer.alloc(0)
  #isAtEnd = false

  constructor(name: LibraryName, binding: Binding) {
    this.#name = name
    this.#binding = binding
    // Memory of its own: the libraries compare its address.
    this.#state = Buffer.from(new ArrayBuffer(binding.structBytes))
    this.#check(binding.start(this.#state))
  }

  isPadding(byte: number): boolean {
    return byte !== this.#binding.magic
  }

  get isAtEnd(): boolean {
    return this.#isAtEnd
  }

  get leftBytes(): number {
    return this.#read(AVAILABLE_IN)
  }

  get left(): Buffer {
    return this.#input.subarray(this.#input.length - this.leftBytes)
  }

  input(bytes: Buffer): void {
    this.#input = bytes
    this.#state.writeBigUInt64LE(this.#binding.address(bytes), 0)
    this.#write(AVAILABLE_IN, bytes.length)
  }

  nextMember(): void {
    const { left } = this
    this.#binding.end(this.#state)
    this.#state.fill(0)
    this.#isAtEnd = false
    this.#check(this.#binding.start(this.#state))
    this.input(left)
  }

  inflate(target: Buffer): number {
    if (this.#isAtEnd || target.length === 0) return 0
    this.#aim(target)
    const { step, stepArguments } = this.#binding
    return this.#conclude(target, step(this.#state, ...stepArguments))
  }

  async inflateAside(target: Buffer): Promise<number> {
    if (this.#isAtEnd || target.length === 0) return 0
    this.#aim(target)
    const { step, stepArguments } = this.#binding
    return this.#conclude(target, await callAside(step, this.#state, ...stepArguments))
  }

  #aim(target: Buffer): void {
    this.#state.writeBigUInt64LE(this.#binding.address(target), NEXT_OUT)
    this.#write(AVAILABLE_OUT, target.length)
  }

  #conclude(target: Buffer, result: number): number {
    this.#check(result)
    this.#isAtEnd = result === this.#binding.endResult
    return target.length - this.#read(AVAILABLE_OUT)
  }

  #check(result: number): void {
    if (this.#binding.isFailure(result)) throw new RangeError(`invalid data (${this.#name} ${result})`)
  }

  #read(offset: number): number {
    return this.#binding.width === 4
      ? this.#state.readUInt32LE(offset)
      : Number(this.#state.readBigUInt64LE(offset))
  }

  #write(offset: number, value: number): void {
    if (this.#binding.width === 4) this.#state.writeUInt32LE(value, offset)
    else this.#state.writeBigUInt64LE(BigInt(value), offset)
  }

  [Symbol.dispose](): void {
    this.#binding.end(this.#state)
  }
}
