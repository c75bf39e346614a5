import { constants, zstdCompressSync } from 'node:zlib'
import type { Checkpoint, SpanCompression } from '../compression/index.ts'
import { type HeadJson, MAGIC, POINT_BYTES, SUM_BYTES } from './format.ts'
import type { BlobAccess, IndexedBlob } from './types.ts'

const EMPTY = Buffer.alloc(0)
const LEVEL = 12

/** A span, whose end is the start of the next. */
export interface MadeSpan {
  readonly point: Checkpoint
  /** sha256 of its bytes of the tar. */
  sum: Buffer
}

/** What an index is written from. */
export interface MadeIndex {
  readonly packing: SpanCompression
  readonly access: BlobAccess
  readonly spans: readonly MadeSpan[]
  /** Packed; those at the end may be missing. */
  readonly windows: readonly Buffer[]
}

/** Returns the parts of the file of an index. `skeleton` is packed. */
export function formatIndex(of: IndexedBlob, found: MadeIndex, skeleton: Buffer): Buffer[] {
  const { packing, access, spans } = found
  const points = spans.length === 0 ? EMPTY : pack(formatPoints(spans, access))
  const windows = formatWindows(found)
  const sections = { skeleton: skeleton.length, points: points.length, windows: windows.length }
  const { blob, diffId, tarBytes } = of
  const { digest, sizeBytes } = blob
  const json: HeadJson = {
    blob: { digest, sizeBytes },
    diffId,
    tarBytes,
    compression: packing,
    access,
    spans: spans.length,
    sections,
  }
  const head = Buffer.from(JSON.stringify(json))
  const headSize = Buffer.alloc(4)
  headSize.writeUInt32LE(head.length)
  return [MAGIC, headSize, head, skeleton, points, windows]
}

function formatPoints(spans: readonly MadeSpan[], access: BlobAccess): Buffer {
  const { length } = spans
  const points = Buffer.alloc(length * POINT_BYTES)
  for (const [index, { point, sum }] of spans.entries()) {
    points.writeDoubleLE(access === 'random' ? point.blobStart : 0, index * 8)
    points.writeDoubleLE(point.tarStart, (length + index) * 8)
    points[length * 16 + index] = access === 'random' ? point.bit : 0
    sum.copy(points, length * 17 + index * SUM_BYTES)
  }
  return points
}

function formatWindows({ packing, access, spans, windows }: MadeIndex): Buffer {
  if (packing !== 'gzip' || access !== 'random') return EMPTY
  const sizes = Buffer.alloc(spans.length * 4)
  for (const [index] of spans.entries()) sizes.writeUInt32LE(windows[index]?.length ?? 0, index * 4)
  // The last checkpoint may be at the end of the tar: it begins nothing.
  return Buffer.concat([sizes, ...windows.slice(0, spans.length)])
}

/** Packs a window, or a table. */
export function pack(bytes: Buffer): Buffer {
  return zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } })
}
