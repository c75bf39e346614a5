/*
 * The lazy index of a layer blob (docs/formats/lazy-index.md):
 *   "LOAMLZ01" | u32 size of the head | head, JSON | skeleton | points | windows
 *   skeleton  frames: u32 packed size, u32 size, zstd
 *   points    one frame of zstd: f64 place in the blob of each span, f64 place in the tar of each, u8 bits of each, 32 bytes of sha256 of each
 *   windows   u32 packed size of each span's window, then the windows, zstd each; empty for a span that needs none
 * All numbers are little-endian.
 */
import { zstdDecompressSync } from 'node:zlib'
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'

export const MAGIC = Buffer.from('LOAMLZ01')
export const MAX_HEAD_BYTES = 4096
/** Largest span, decompressed and in the blob: reading one byte of it costs all of it. */
export const MAX_SPAN_BYTES = 32 << 20
/** Size of an unpacked frame of the skeleton. */
export const SKELETON_FRAME_BYTES = 1 << 20
/** Bytes of a span in the unpacked points. */
export const POINT_BYTES = 8 + 8 + 1 + 32
export const SUM_BYTES = 32
/** The least that Node makes a piece of. */
const ROOM_BYTES = 64
/** Size at which a span may end. */
export const SPAN_BYTES = 1 << 20
/** Spans of an index that has many are at least this large on average. */
export const MIN_MEAN_SPAN_BYTES = 64 << 10
/** Number of spans that is never too large. */
export const FEW_SPANS = 256 << 10

const Size = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

/** The head of an index. */
export const Head = v.strictObject({
  blob: v.strictObject({ digest: v.string(), sizeBytes: Size }),
  diffId: v.string(),
  tarBytes: Size,
  compression: v.picklist(['gzip', 'zstd', 'none']),
  access: v.picklist(['random', 'sequential']),
  spans: Size,
  /** Sizes of the sections. */
  sections: v.strictObject({ skeleton: Size, points: Size, windows: Size }),
})

export type HeadJson = v.InferOutput<typeof Head>

/** Creates the error for an index that is wrong. */
export function invalidIndex(why: string, cause?: unknown): LoamError {
  return new LoamError('LAZY_INDEX_INVALID', `read lazy index: ${why}`, { cause })
}

/** Unpacks one zstd frame, whose size is known. @throws LAZY_INDEX_INVALID */
export function unpack(packed: Buffer, bytes: number, what: string): Buffer {
  if (bytes === 0 && packed.length === 0) return packed
  const found = unpackUpTo(packed, bytes, what)
  if (found.length !== bytes) throw invalidIndex(`${what} has ${found.length} bytes instead of ${bytes}`)
  return found
}

/** Unpacks one zstd frame of at most `maxBytes`. @throws LAZY_INDEX_INVALID */
export function unpackUpTo(packed: Buffer, maxBytes: number, what: string): Buffer {
  // In one piece: Node's default is one for each 16 KiB. With the room that shows that nothing follows.
  const chunkSize = Math.min(maxBytes, SKELETON_FRAME_BYTES) + ROOM_BYTES
  try {
    return zstdDecompressSync(packed, { maxOutputLength: Math.max(maxBytes, 1), chunkSize })
  } catch (error) {
    throw invalidIndex(`${what} cannot be unpacked`, error)
  }
}
