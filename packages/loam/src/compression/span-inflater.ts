import { LoamError } from '../errors/index.ts'
import { hasIsal, IsalInflater } from './isal.ts'
import { createTrial, hasRawInflate, RawInflate } from './raw-inflate.ts'
import { hasZstd, ZstdInflater } from './zstd.ts'

/** How the blob of a lazy index is compressed. */
export type SpanCompression = 'gzip' | 'zstd' | 'none'

/** One span, and what is needed to decompress it alone. */
export interface SpanRequest {
  readonly compression: SpanCompression
  /** The blob's bytes from the checkpoint to the byte that holds the first bits of the next span, inclusive; more does not matter. */
  readonly bytes: Buffer
  /** Bits of the first byte that belong to the block before. */
  readonly bit: number
  /** What the span refers to; empty where a member or a frame begins. */
  readonly window: Buffer
  /** Size of the span, decompressed. */
  readonly lengthBytes: number
  /** Memory for the result, of its size or more. Undefined: new memory. */
  readonly output?: Buffer | undefined
}

/** CRC-32 and size after each gzip member. */
const TRAILER_BYTES = 8

/** Returns whether spans can be decompressed here. */
export function canInflateSpans(): boolean {
  return hasRawInflate() && hasZstd()
}

/**
 * Decompresses one span. It computes in this thread: some 1 ms for each MiB. The result may be part of `bytes` or `output`. It is not verified: its sha256 is
 * in the index.
 * @throws COMPRESSION_INVALID
 */
export function inflateSpan(request: SpanRequest): Buffer {
  const { compression, bytes, lengthBytes } = request
  try {
    switch (compression) {
      case 'none':
        if (bytes.length < lengthBytes) throw endsEarly()
        return bytes.subarray(0, lengthBytes)
      case 'gzip':
        return canUseIsal() ? inflateWithIsal(request) : inflateWithZlib(request)
      case 'zstd':
        return inflateFrames(request)
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new LoamError('COMPRESSION_INVALID', `decompress span: ${error.message}`, { cause: error })
  }
}

let isTrusted: boolean | undefined

/** Whether ISA-L is here, and can begin at a block as it is expected to. */
function canUseIsal(): boolean {
  isTrusted ??= hasIsal() && tryIsal()
  return isTrusted
}

function tryIsal(): boolean {
  const trial = createTrial()
  if (trial === undefined) return false
  const { plain, ...request } = trial
  try {
    return inflateWithIsal({ ...request, compression: 'gzip', lengthBytes: plain.length }).equals(plain)
  } catch {
    return false
  }
}

/** The stream of this thread: starting one costs more than a small span. */
let stream: RawInflate | undefined

/** As `inflateSpan` for gzip, without ISA-L. @throws RangeError */
export function inflateWithZlib({ bytes, bit, window, lengthBytes, output: given }: SpanRequest): Buffer {
  stream ??= new RawInflate('raw')
  const inflater = stream
  inflater.beginAt(bytes, bit, window)
  const output = memoryFor(lengthBytes, given)
  let trailerBytes = TRAILER_BYTES
  for (let filled = 0; filled < lengthBytes; ) {
    const count = inflater.inflate(output.subarray(filled))
    filled += count
    if (inflater.isAtEnd && filled < lengthBytes) {
      // Only the member that the span begins in is read without what is around it.
      const rest = inflater.left.subarray(trailerBytes)
      trailerBytes = 0
      if (rest.length === 0) throw endsEarly()
      inflater.reset('gzip')
      inflater.input(rest)
    } else if (count === 0) throw endsEarly()
  }
  return output
}

/** As `inflateSpan` for gzip, with ISA-L. @throws RangeError */
export function inflateWithIsal({ bytes, bit, window, lengthBytes, output: given }: SpanRequest): Buffer {
  using inflater = new IsalInflater()
  inflater.beginAt(bytes, bit, window)
  const output = memoryFor(lengthBytes, given)
  let trailerBytes = TRAILER_BYTES
  for (let filled = 0; filled < lengthBytes; ) {
    const count = inflater.inflate(output.subarray(filled))
    filled += count
    if (inflater.isAtEnd && filled < lengthBytes) {
      const rest = bytes.subarray(bytes.length - inflater.leftBytes - inflater.heldBytes + trailerBytes)
      trailerBytes = 0
      if (rest.length === 0) throw endsEarly()
      inflater.beginMember(rest)
    } else if (count === 0) throw endsEarly()
  }
  return output
}

function inflateFrames({ bytes, lengthBytes, output: given }: SpanRequest): Buffer {
  using inflater = new ZstdInflater()
  inflater.input(bytes)
  const output = memoryFor(lengthBytes, given)
  for (let filled = 0; filled < lengthBytes; ) {
    const before = inflater.leftBytes
    const count = inflater.inflate(output.subarray(filled))
    filled += count
    if (inflater.isAtEnd && filled < lengthBytes) {
      if (inflater.leftBytes === 0) throw endsEarly()
      inflater.nextMember()
    } else if (count === 0 && inflater.leftBytes === before) throw endsEarly()
  }
  return output
}

function memoryFor(lengthBytes: number, given: Buffer | undefined): Buffer {
  return given?.subarray(0, lengthBytes) ?? Buffer.allocUnsafeSlow(lengthBytes)
}

function endsEarly(): RangeError {
  return new RangeError('its data ends early')
}
