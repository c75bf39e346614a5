import { isLoamError } from '../errors/index.ts'
import { inflateSpan, type WindowSample } from '../compression/index.ts'

const EMPTY = Buffer.alloc(0)

/**
 * Returns a window with zeros in the place of all bytes that its span does not refer to. The result has been decoded with, and gave the same bytes; a window that cannot
 * be checked is returned as it is.
 *
 * Only the first 32 KiB of a span can refer to the window: what follows refers to those. They are decoded with two made-up windows, which have
 * the low and the high byte of each position. The second one differs in each byte from the real window, so that a byte of the output that
 * differs from the real one has come from the window, and the two outputs say from where.
 */
export function sparseWindow(sample: WindowSample): Buffer {
  const { window, plain, bytes } = sample
  if (window.length === 0 || plain.length === 0) return EMPTY
  if (bytes.length === 0) return window
  try {
    return withoutUnused(sample)
  } catch (error) {
    if (isLoamError(error, 'COMPRESSION_INVALID')) return window
    throw error
  }
}

function withoutUnused(sample: WindowSample): Buffer {
  const { window, plain } = sample
  const sparse = Buffer.alloc(window.length)
  for (const position of usedPositions(sample)) sparse[position] = window[position] ?? 0
  return decode(sample, sparse).equals(plain) ? sparse : window
}

function* usedPositions(sample: WindowSample): Generator<number> {
  const { window, plain } = sample
  const low = Buffer.alloc(window.length)
  const high = Buffer.alloc(window.length)
  for (let position = 0; position < window.length; position += 1) {
    low[position] = position
    // Positions have 15 bits, and the last bit makes the difference.
    high[position] = window[position] === position >> 8 ? (position >> 8) | 0x80 : position >> 8
  }
  const lows = decode(sample, low)
  const highs = decode(sample, high)
  for (let index = 0; index < plain.length; index += 1) {
    const found = highs[index] ?? 0
    if (found !== plain[index]) yield ((found & 0x7f) << 8) | (lows[index] ?? 0)
  }
}

function decode({ bytes, bit, plain }: WindowSample, window: Buffer): Buffer {
  return inflateSpan({ compression: 'gzip', bytes, bit, window, lengthBytes: plain.length })
}
