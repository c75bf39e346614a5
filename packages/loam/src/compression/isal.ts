/*
 * Inflates gzip with Intel's ISA-L (igzip_lib.h of libisal 2), several times faster than zlib. Used if the library is installed
 * and a trial shows that its struct inflate_state has the layout below.
 */
import { LoamError } from '../errors/index.ts'
import { gzipSync } from 'node:zlib'
import type * as Koffi from 'koffi'
import { loadKoffi } from '../linux/index.ts'
import { callAside, type Inflater } from './inflaters.ts'

// Offsets in struct inflate_state: 40 bytes, tables of 18912 and 2208 bytes, then the fields of the stream.
const NEXT_OUT = 0
const AVAILABLE_OUT = 8
const NEXT_IN = 16
const READ_IN = 24
const AVAILABLE_IN = 32
const READ_IN_BITS = 36
const BLOCK_STATE = 40 + 18_912 + 2208
const CRC_FLAG = BLOCK_STATE + 12
/** Larger than the struct of any version. */
const STATE_BYTES = 1 << 17
const ISAL_BLOCK_FINISH = 5
const ISAL_DEFLATE = 0
const ISAL_GZIP = 1
const GZIP_MAGIC = 0x1f
const TRIAL_PIECE_BYTES = 1000

interface Isal {
  readonly init: (state: Buffer) => void
  readonly reset: (state: Buffer) => void
  readonly inflate: Koffi.KoffiFunc<(state: Buffer) => number>
  readonly setWindow: (state: Buffer, window: Buffer, bytes: number) => number
  readonly address: (bytes: Buffer) => bigint
}

let library: Isal | false | undefined

/** State of a previous inflater, for reuse: allocating it takes longer than inflating a small layer. */
let spareState: Buffer | undefined

/** Returns whether ISA-L can be used here. */
export function hasIsal(): boolean {
  return loadIsal() !== undefined
}

function loadIsal(): Isal | undefined {
  library ??= bind() ?? false
  if (library === false) return undefined
  return library
}

function bind(): Isal | undefined {
  try {
    const koffi = loadKoffi()
    const isal = koffi.load('libisal.so.2')
    const bound: Isal = {
      init: isal.func('void isal_inflate_init(void *state)') as Isal['init'],
      reset: isal.func('void isal_inflate_reset(void *state)') as Isal['reset'],
      inflate: isal.func('int isal_inflate(void *state)') as Isal['inflate'],
      setWindow: isal.func(
        'int isal_inflate_set_dict(void *state, const void *window, uint32_t bytes)',
      ) as Isal['setWindow'],
      address: (bytes) => koffi.address(bytes),
    }
    return isTrustworthy(bound) ? bound : undefined
  } catch {
    // It is not installed, or not built for this processor.
    return undefined
  }
}

/** Inflates two members in pieces, and compares the result with the data that zlib has compressed. */
function isTrustworthy(isal: Isal): boolean {
  // A loop, and not a mapping: every thread does this when it starts.
  const plain = Buffer.alloc(60_000)
  for (let index = 0; index < plain.length; index += 1)
    plain[index] = index % 7 === 0 ? (index * index) % 251 : index % 13
  const packed = gzipSync(plain)
  const inflater = new IsalInflater(isal)
  const output: Buffer[] = []
  for (let start = 0; start < packed.length; start += TRIAL_PIECE_BYTES) {
    inflater.input(packed.subarray(start, start + TRIAL_PIECE_BYTES))
    for (let bytes = -1; bytes !== 0; ) {
      const piece = Buffer.alloc(777)
      bytes = inflater.inflate(piece)
      output.push(piece.subarray(0, bytes))
    }
  }
  return inflater.isAtEnd && inflater.leftBytes === 0 && Buffer.concat(output).equals(plain)
}

/** One stream of gzip members. Give it input, and take output until it is empty; then give it more. */
export class IsalInflater implements Inflater {
  readonly #isal: Isal
  readonly #state = takeState()
  /** Keeps the memory that the library reads from. */
  #input: Buffer = Buffer.alloc(0)

  /** @throws when `hasIsal` is false */
  constructor(isal: Isal | undefined = loadIsal()) {
    if (isal === undefined) throw new LoamError('INTERNAL', 'ISA-L is not here')
    this.#isal = isal
    this.#isal.init(this.#state)
    this.#state.writeUInt32LE(ISAL_GZIP, CRC_FLAG)
  }

  isPadding(byte: number): boolean {
    return byte !== GZIP_MAGIC
  }

  /** Sets the next input; the previous one must be used up. It must not change until it is used up. */
  input(bytes: Buffer): void {
    this.#input = bytes
    this.#state.writeBigUInt64LE(this.#isal.address(bytes), NEXT_IN)
    this.#state.writeUInt32LE(bytes.length, AVAILABLE_IN)
  }

  /** Whether a member has ended. */
  get isAtEnd(): boolean {
    return this.#state.readInt32LE(BLOCK_STATE) === ISAL_BLOCK_FINISH
  }

  /** Bytes of the input that are not used yet. */
  get leftBytes(): number {
    return this.#state.readUInt32LE(AVAILABLE_IN)
  }

  /** The input that is not used yet. */
  get left(): Buffer {
    return this.#input.subarray(this.#input.length - this.leftBytes)
  }

  /**
   * Begins in a raw stream, at a block whose first byte is that of `input` and has `bit` bits of the block before. `window` is what came before, at
   * most 32 KiB.
   */
  beginAt(input: Buffer, bit: number, window: Buffer): void {
    this.#isal.init(this.#state)
    this.#state.writeUInt32LE(ISAL_DEFLATE, CRC_FLAG)
    if (window.length > 0 && this.#isal.setWindow(this.#state, window, window.length) !== 0)
      throw new RangeError('the window is too large')
    this.input(input.subarray(bit > 0 ? 1 : 0))
    if (bit === 0) return
    this.#state.writeBigUInt64LE(BigInt((input[0] ?? 0) >> bit), READ_IN)
    this.#state.writeInt32LE(8 - bit, READ_IN_BITS)
  }

  /** Begins a gzip member. */
  beginMember(input: Buffer): void {
    this.#isal.init(this.#state)
    this.#state.writeUInt32LE(ISAL_GZIP, CRC_FLAG)
    this.input(input)
  }

  /** Whole bytes that are read and not used, beyond those of `left`. */
  get heldBytes(): number {
    return this.#state.readInt32LE(READ_IN_BITS) >> 3
  }

  /** Begins the next member with the remaining input. */
  nextMember(): void {
    const { left } = this
    this.#isal.reset(this.#state)
    this.#state.writeUInt32LE(ISAL_GZIP, CRC_FLAG)
    this.input(left)
  }

  /**
   * Fills `target` from its start and returns the number of bytes; fewer than its size if more input is needed or the member has ended.
   * @throws RangeError for data that is not gzip
   */
  inflate(target: Buffer): number {
    if (this.isAtEnd || target.length === 0) return 0
    this.#aim(target)
    return this.#conclude(target, this.#isal.inflate(this.#state))
  }

  /** The same in another thread. No other method may be called meanwhile. */
  async inflateAside(target: Buffer): Promise<number> {
    if (this.isAtEnd || target.length === 0) return 0
    this.#aim(target)
    return this.#conclude(target, await callAside(this.#isal.inflate, this.#state))
  }

  #aim(target: Buffer): void {
    this.#state.writeBigUInt64LE(this.#isal.address(target), NEXT_OUT)
    this.#state.writeUInt32LE(target.length, AVAILABLE_OUT)
  }

  #conclude(target: Buffer, result: number): number {
    if (result < 0) throw new RangeError(`invalid data (ISA-L ${result})`)
    return target.length - this.#state.readUInt32LE(AVAILABLE_OUT)
  }

  /** Its state is memory of this process. */
  [Symbol.dispose](): void {
    this.#input = Buffer.alloc(0)
    spareState = this.#state
  }
}

function takeState(): Buffer {
  const state = spareState ?? Buffer.alloc(STATE_BYTES)
  spareState = undefined
  return state
}
