import * as v from 'valibot'
import { WINDOW_BYTES } from '../compression/index.ts'
import { parseDiffId, parseDigest, parseStrictJson } from '../image/index.ts'
import { type LayerLimits, overLimit } from '../tree/index.ts'
import {
  FEW_SPANS,
  Head,
  type HeadJson,
  invalidIndex,
  MAGIC,
  MAX_HEAD_BYTES,
  MAX_SPAN_BYTES,
  MIN_MEAN_SPAN_BYTES,
  POINT_BYTES,
  SKELETON_FRAME_BYTES,
  unpack,
  unpackUpTo,
} from './format.ts'
import type { IndexedBlob, LazyIndex, SpanTable } from './types.ts'

const EMPTY = Buffer.alloc(0)
const RATIO_FREE_BYTES = 16 << 20
const MAX_WHOLE_SKELETON_BYTES = 1 << 30

/**
 * Reads a lazy index, and trusts nothing in it. What it says of the tree and of the bytes may still be a lie: that is for who trusts its publisher. The
 * caller compares blob and diffID with the image's, and keeps `bytes` unchanged. Unpacks the points; skeleton and windows when they are asked for.
 * @throws LAZY_INDEX_INVALID, LAYER_LIMIT
 */
export function readLazyIndex(bytes: Buffer, limits: LayerLimits): LazyIndex {
  const { head, start } = readHead(bytes)
  const { tarBytes, compression, access, sections } = head
  const of = describe(head)
  checkSizes(head, limits)
  const end = start + sections.skeleton + sections.points + sections.windows
  if (end !== bytes.length) throw invalidIndex(`it has ${bytes.length} bytes instead of ${end}`)
  const packedSkeleton = bytes.subarray(start, start + sections.skeleton)
  const spans = readSpans(bytes.subarray(start + sections.skeleton, end - sections.windows), head)
  const window = readWindows(bytes.subarray(end - sections.windows), head)
  checkSkeleton(packedSkeleton, tarBytes)
  const skeletonPieces = () => unpackSkeleton(packedSkeleton)
  return {
    ...of,
    compression,
    access,
    spans,
    window,
    skeletonPieces,
    skeleton: () => wholeSkeleton(packedSkeleton),
  }
}

/** Reads what a lazy index says it is the index of, and nothing else of it. @throws LAZY_INDEX_INVALID */
export function readIndexedBlob(bytes: Buffer): IndexedBlob {
  return describe(readHead(bytes).head)
}

function describe({ blob, diffId, tarBytes }: HeadJson): IndexedBlob {
  return {
    blob: { digest: parsed(() => parseDigest(blob.digest)), sizeBytes: blob.sizeBytes },
    diffId: parsed(() => parseDiffId(diffId)),
    tarBytes,
  }
}

function readHead(bytes: Buffer): { head: HeadJson; start: number } {
  const fixedBytes = MAGIC.length + 4
  if (bytes.length < fixedBytes || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
    throw invalidIndex('it is not one that this version can read')
  const headBytes = bytes.readUInt32LE(MAGIC.length)
  const start = fixedBytes + headBytes
  if (headBytes > MAX_HEAD_BYTES || start > bytes.length) throw invalidIndex('its head is too large')
  const json = parsed(() => parseStrictJson(bytes.subarray(fixedBytes, start), 'head of a lazy index'))
  const found = v.safeParse(Head, json, { abortEarly: true })
  if (!found.success) {
    const [issue] = found.issues
    throw invalidIndex(`its head: ${v.getDotPath(issue) ?? ''}: ${issue.message}`)
  }
  return { head: found.output, start }
}

function parsed<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw invalidIndex(error instanceof Error ? error.message : String(error), error)
  }
}

function checkSizes({ blob, tarBytes, compression, spans }: HeadJson, limits: LayerLimits): void {
  const what = `read lazy index of ${blob.digest}`
  if (tarBytes > limits.tarBytes) throw overLimit(what, 'tarBytes', limits.tarBytes)
  if (tarBytes > RATIO_FREE_BYTES && tarBytes > blob.sizeBytes * limits.ratio)
    throw overLimit(`${what}: bytes for each compressed one`, 'ratio', limits.ratio)
  if (compression === 'none' && tarBytes !== blob.sizeBytes)
    throw invalidIndex('a blob that is not compressed has the size of its tar')
  if (spans > Math.max(FEW_SPANS, tarBytes / MIN_MEAN_SPAN_BYTES)) throw invalidIndex(`it has ${spans} spans`)
  if ((spans === 0) !== (tarBytes === 0)) throw invalidIndex(`a tar of ${tarBytes} bytes has ${spans} spans`)
}

function readSpans(packed: Buffer, head: HeadJson): SpanTable {
  const { spans: count, blob, tarBytes } = head
  const points = unpack(packed, count * POINT_BYTES, 'its table of points')
  const blobStarts = new Float64Array(count + 1)
  const tarStarts = new Float64Array(count + 1)
  for (let index = 0; index < count; index += 1) {
    blobStarts[index] = points.readDoubleLE(index * 8)
    tarStarts[index] = points.readDoubleLE((count + index) * 8)
  }
  blobStarts[count] = blob.sizeBytes
  tarStarts[count] = tarBytes
  const bits = new Uint8Array(points.subarray(count * 16, count * 17))
  const table = { count, blobStarts, tarStarts, bits, sums: Buffer.from(points.subarray(count * 17)) }
  checkTable(table, head)
  return table
}

function checkTable({ count, blobStarts, tarStarts, bits }: SpanTable, head: HeadJson): void {
  const { compression, access } = head
  const maxBit = compression === 'gzip' && access === 'random' ? 7 : 0
  if (count > 0 && tarStarts[0] !== 0) throw invalidIndex('its first span is not at the start of the tar')
  for (let index = 0; index < count; index += 1) {
    const [blobStart = 0, tarStart = 0, bit = 0] = [blobStarts[index], tarStarts[index], bits[index]]
    const [blobEnd = 0, tarEnd = 0] = [blobStarts[index + 1], tarStarts[index + 1]]
    if (!isSpan(tarStart, tarEnd)) throw invalidIndex(`span ${index} has a wrong place in the tar`)
    const isRight = access === 'random' ? isSpan(blobStart, blobEnd) : blobStart === 0
    const isMoved = compression === 'none' && access === 'random' && blobStart !== tarStart
    if (!isRight || isMoved || bit > maxBit) throw invalidIndex(`span ${index} has a wrong place in the blob`)
  }
}

function isSpan(start: number, end: number): boolean {
  return Number.isSafeInteger(start) && start >= 0 && end > start && end - start <= MAX_SPAN_BYTES
}

function readWindows(section: Buffer, { spans, compression, access }: HeadJson): (span: number) => Buffer {
  if (compression !== 'gzip' || access !== 'random') {
    if (section.length > 0) throw invalidIndex('it has windows that it does not need')
    return () => EMPTY
  }
  if (section.length < spans * 4) throw invalidIndex('its table of windows is cut off')
  const starts = new Float64Array(spans + 1)
  let at = spans * 4
  for (let span = 0; span < spans; span += 1) {
    starts[span] = at
    const bytes = section.readUInt32LE(span * 4)
    // A frame of zstd that holds more cannot be that of a window.
    if (bytes > WINDOW_BYTES * 2) throw invalidIndex(`window ${span} has ${bytes} bytes`)
    at += bytes
  }
  starts[spans] = at
  if (at !== section.length) throw invalidIndex('its windows have another size')
  if (spans > 0 && starts[1] !== starts[0]) throw invalidIndex('the first span has a window')
  return (span) => unpackWindow(section.subarray(starts[span], starts[span + 1]), span)
}

function unpackWindow(packed: Buffer, span: number): Buffer {
  return packed.length === 0 ? EMPTY : unpackUpTo(packed, WINDOW_BYTES, `window ${span}`)
}

function wholeSkeleton(section: Buffer): Buffer {
  if (skeletonBytes(section) > MAX_WHOLE_SKELETON_BYTES)
    throw invalidIndex('its skeleton is too large for one buffer')
  return Buffer.concat([...unpackSkeleton(section)])
}

function skeletonBytes(section: Buffer): number {
  let unpackedBytes = 0
  for (const { bytes } of skeletonFrames(section)) unpackedBytes += bytes
  return unpackedBytes
}

/** Checks the frames of the skeleton without unpacking them. */
function checkSkeleton(section: Buffer, tarBytes: number): void {
  if (skeletonBytes(section) > tarBytes) throw invalidIndex('its skeleton is larger than its tar')
}

function* skeletonFrames(section: Buffer): Generator<{ readonly packed: Buffer; readonly bytes: number }> {
  for (let at = 0; at < section.length; ) {
    if (section.length - at < 8) throw invalidIndex('its skeleton is cut off')
    const end = at + 8 + section.readUInt32LE(at)
    const bytes = section.readUInt32LE(at + 4)
    if (end > section.length || bytes === 0 || bytes > SKELETON_FRAME_BYTES)
      throw invalidIndex('a frame of its skeleton has a wrong size')
    yield { packed: section.subarray(at + 8, end), bytes }
    at = end
  }
}

function* unpackSkeleton(section: Buffer): Generator<Buffer> {
  for (const { packed, bytes } of skeletonFrames(section))
    yield unpack(packed, bytes, 'a frame of its skeleton')
}
