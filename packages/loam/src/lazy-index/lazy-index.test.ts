import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { constants, createGzip, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { inflateWithIsal, inflateWithZlib } from '../compression/span-inflater.ts'
import { randomLayer } from '../../test/support/random-layers.ts'
import { canInflateSpans, decompress, hasIsal, inflateSpan } from '../compression/index.ts'
import { digestOf, parseDiffId } from '../image/index.ts'
import { TarReader } from '../tar/index.ts'
import { buildTar } from '../testing/index.ts'
import { DEFAULT_LAYER_LIMITS, LayerTreeBuilder } from '../tree/index.ts'
import { LazyIndexMaker, type LazyIndex, readLazyIndex, readSkeleton } from './index.ts'

const RUNS = { numRuns: 40, endOnFailure: true }

interface Making {
  readonly spanBytes: number
  readonly maxSpanBytes?: number
  /** Size of the pieces that the blob comes in. */
  readonly pieceBytes: number
  readonly isAhead: boolean
}

async function* inPieces(blob: Buffer, bytes: number): AsyncGenerator<Buffer> {
  // Copies: the reader gives their memory back.
  for (let at = 0; at < blob.length; at += bytes) yield Buffer.from(blob.subarray(at, at + bytes))
}

async function makeIndex(
  blob: Buffer,
  { pieceBytes, isAhead, ...options }: Making,
): Promise<Buffer | undefined> {
  const reader = new TarReader(() => undefined)
  const checkpoints = new LazyIndexMaker(reader, options)
  const hash = createHash('sha256')
  let tarBytes = 0
  for await (const chunk of decompress(inPieces(blob, pieceBytes), { checkpoints, isAhead })) {
    hash.update(chunk)
    checkpoints.write(chunk)
    tarBytes += chunk.length
  }
  reader.end()
  const parts = checkpoints.end({
    blob: { digest: digestOf(blob), sizeBytes: blob.length },
    diffId: parseDiffId(`sha256:${hash.digest('hex')}`),
    tarBytes,
  })
  return parts === undefined ? undefined : Buffer.concat(parts)
}

/** Inflates every span alone, in each way that this machine has, and compares it with the tar. */
function checkSpans(index: LazyIndex, blob: Buffer, tar: Buffer): void {
  const { blobStarts, tarStarts, bits, sums, count } = index.spans
  const inflaters =
    index.compression === 'gzip'
      ? [inflateSpan, inflateWithZlib, ...(hasIsal() ? [inflateWithIsal] : [])]
      : [inflateSpan]
  for (let span = 0; span < count; span += 1) {
    const expected = tar.subarray(tarStarts[span], tarStarts[span + 1])
    const sum = sums.subarray(span * 32, span * 32 + 32)
    assert.ok(createHash('sha256').update(expected).digest().equals(sum), `sum of span ${span}`)
    if (index.access === 'sequential') continue
    const request = {
      compression: index.compression,
      bytes: Buffer.from(blob.subarray(blobStarts[span], (blobStarts[span + 1] ?? 0) + 1)),
      bit: bits[span] ?? 0,
      window: index.window(span),
      lengthBytes: expected.length,
    }
    for (const inflate of inflaters) assert.ok(inflate(request).equals(expected), `span ${span}`)
  }
}

/** The tree of a layer, as text. */
function treeOf(read: (reader: TarReader) => void): unknown[] {
  const builder = new LayerTreeBuilder(DEFAULT_LAYER_LIMITS)
  const entries: unknown[] = []
  const reader = new TarReader((entry) => {
    entries.push(structuredClone(entry))
    builder.add(entry)
  })
  read(reader)
  return entries
}

function checkSkeleton(index: LazyIndex, tar: Buffer): void {
  const whole = treeOf((reader) => {
    reader.write(tar)
    reader.end()
  })
  const fromSkeleton = treeOf((reader) => {
    for (const { tarStart, bytes } of readSkeleton(index.skeletonPieces(), tar.length, reader))
      assert.ok(tar.subarray(tarStart, tarStart + bytes.length).equals(bytes), `the skeleton at ${tarStart}`)
  })
  assert.deepEqual(fromSkeleton, whole)
}

/** Data of files: text, noise, copies of what came before, and zeros. */
const fileData = fc
  .array(
    fc.oneof(
      fc.string({ maxLength: 400 }).map((text) => Buffer.from(text)),
      fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
      fc
        .tuple(fc.string({ minLength: 1, maxLength: 60 }), fc.nat(100))
        .map(([text, count]) => Buffer.from(text.repeat(count))),
      fc.nat(40_000).map((bytes) => Buffer.alloc(bytes)),
    ),
    { maxLength: 5 },
  )
  .map((parts) => Buffer.concat(parts))

const tars = fc.oneof(
  fc
    .array(fileData, { maxLength: 4 })
    .map((files) => buildTar(files.map((data, index) => ({ name: `files/${index}`, data })))),
  // With extended headers of any length.
  randomLayer.map(({ tar }) => tar),
)

/** Text without repetitions: libraries decode several of its bytes at a time. */
const hexData = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((seed) =>
    Buffer.from(
      Array.from({ length: 2000 }, (_, index) =>
        createHash('sha256').update(seed).update(`${index}`).digest('hex'),
      ).join(''),
    ),
  )

/** Where a tar is cut into members or flushed pieces. */
const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 5 })

function pieces(tar: Buffer, at: readonly number[]): Buffer[] {
  const places = [0, ...at.map((part) => Math.floor(part * tar.length)).toSorted((a, b) => a - b), tar.length]
  return places.slice(1).map((end, index) => tar.subarray(places[index], end))
}

const levels = fc.record({
  level: fc.integer({ min: 0, max: 9 }),
  memLevel: fc.integer({ min: 1, max: 9 }),
  strategy: fc.constantFrom(
    constants.Z_DEFAULT_STRATEGY,
    constants.Z_FIXED,
    constants.Z_HUFFMAN_ONLY,
    constants.Z_RLE,
  ),
})

/** One member, flushed after each piece. */
async function flushed(parts: readonly Buffer[], options: object, flush: number): Promise<Buffer> {
  const found: Buffer[] = []
  const gzip = createGzip({ ...options, flush })
  for await (const chunk of Readable.from(parts).pipe(gzip)) found.push(chunk as Buffer)
  return Buffer.concat(found)
}

const gzipBlobs = fc
  .record({
    tar: tars,
    at: cuts,
    options: levels,
    emptyAt: fc.nat(6),
    paddingBytes: fc.constantFrom(0, 0, 1, 3000),
    flush: fc.constantFrom(
      undefined,
      constants.Z_SYNC_FLUSH,
      constants.Z_FULL_FLUSH,
      constants.Z_PARTIAL_FLUSH,
      constants.Z_BLOCK,
    ),
  })
  .map(({ tar, at, options, emptyAt, paddingBytes, flush }) => ({
    tar,
    pack: async () => {
      const parts = pieces(tar, at)
      if (flush !== undefined) return flushed(parts, options, flush)
      const members = parts.map((part) => gzipSync(part, options))
      members.splice(emptyAt, 0, gzipSync(Buffer.alloc(0)))
      return Buffer.concat([...members, Buffer.alloc(paddingBytes)])
    },
  }))

const makings = fc.record({
  spanBytes: fc.constantFrom(1, 2, 300, 5000, 33_000, 100_000, 1 << 20),
  pieceBytes: fc.constantFrom(1, 7, 1000, 1 << 16, 1 << 20),
  isAhead: fc.boolean(),
})

test('zlib can be called here', () => {
  assert.ok(canInflateSpans())
})

test('every span of a gzip blob inflates alone to the bytes of the tar, and the skeleton gives the tree of the tar', async () => {
  await fc.assert(
    fc.asyncProperty(gzipBlobs, makings, async ({ tar, pack }, making) => {
      const blob = await pack()
      // One byte at a time takes too long for large blobs.
      const pieceBytes = blob.length > 20_000 ? Math.max(making.pieceBytes, 1000) : making.pieceBytes
      const made = await makeIndex(blob, { ...making, pieceBytes })
      assert.ok(made !== undefined)
      const index = readLazyIndex(made, DEFAULT_LAYER_LIMITS)
      assert.equal(index.access, 'random')
      checkSpans(index, blob, tar)
      checkSkeleton(index, tar)
    }),
    RUNS,
  )
})

test('every span of a zstd blob of many frames, and of a plain tar, is the bytes of the tar', async () => {
  await fc.assert(
    fc.asyncProperty(tars, cuts, makings, fc.boolean(), async (tar, at, making, isPlain) => {
      const skippable = Buffer.from('502a4d18030000000102030', 'hex')
      const frames = pieces(tar, at).flatMap((part) => [zstdCompressSync(part), skippable.subarray(0, 11)])
      const blob = isPlain ? tar : Buffer.concat(frames)
      const pieceBytes = Math.max(making.pieceBytes, 1000)
      // A plain tar can be cut anywhere: no index has a span for each of its bytes.
      const spanBytes = Math.max(making.spanBytes, 300)
      const made = await makeIndex(blob, { ...making, pieceBytes, spanBytes })
      assert.ok(made !== undefined)
      const index = readLazyIndex(made, DEFAULT_LAYER_LIMITS)
      assert.equal(index.compression, isPlain ? 'none' : 'zstd')
      checkSpans(index, blob, tar)
      checkSkeleton(index, tar)
    }),
    RUNS,
  )
})

test('a blob without checkpoints for too long can be read from its start only, and its sums are right', async () => {
  const tar = buildTar([{ name: 'x', data: Buffer.alloc(50_000, 'abcdefg') }])
  for (const blob of [zstdCompressSync(tar), gzipSync(tar, { strategy: constants.Z_FIXED, memLevel: 9 })]) {
    const made = await makeIndex(blob, {
      spanBytes: 1000,
      maxSpanBytes: 10_000,
      pieceBytes: 100,
      isAhead: false,
    })
    assert.ok(made !== undefined)
    const index = readLazyIndex(made, DEFAULT_LAYER_LIMITS)
    assert.equal(index.access, 'sequential')
    // No reader waits for more than a usual span, besides those of the first spans of gzip.
    const first = index.compression === 'zstd' ? 0 : 10_000
    const { tarStarts, count } = index.spans
    for (let span = 0; span < count; span += 1)
      if ((tarStarts[span] ?? 0) >= first)
        assert.ok((tarStarts[span + 1] ?? 0) - (tarStarts[span] ?? 0) <= 1000)
    checkSpans(index, blob, tar)
    checkSkeleton(index, tar)
  }
})

test('the skeleton of a tar is the same for pieces of any size', async () => {
  await fc.assert(
    fc.asyncProperty(randomLayer, fc.integer({ min: 1, max: 700 }), async ({ tar }, pieceBytes) => {
      const options = { spanBytes: 1 << 20, isAhead: false }
      const made = await makeIndex(tar, { ...options, pieceBytes })
      const whole = await makeIndex(tar, { ...options, pieceBytes: tar.length })
      assert.ok(made !== undefined && whole?.equals(made))
      checkSkeleton(readLazyIndex(made, DEFAULT_LAYER_LIMITS), tar)
    }),
    RUNS,
  )
})

test('a blob that comes in small pieces has windows, and one that is cut off anywhere is COMPRESSION_INVALID', async () => {
  await fc.assert(
    fc.asyncProperty(
      hexData,
      fc.integer({ min: 1, max: 24 }),
      fc.double({ min: 0.01, max: 0.99, noNaN: true }),
      async (data, pieceBytes, part) => {
        const tar = buildTar([{ name: 'file', data }])
        const blob = gzipSync(tar, { level: 1 })
        const making = { spanBytes: 33_000, pieceBytes, isAhead: false }
        const made = await makeIndex(blob, making)
        assert.ok(made !== undefined)
        const index = readLazyIndex(made, DEFAULT_LAYER_LIMITS)
        assert.ok(index.spans.count > 2)
        checkSpans(index, blob, tar)
        await assert.rejects(makeIndex(blob.subarray(0, Math.ceil(part * blob.length)), making), {
          code: 'COMPRESSION_INVALID',
        })
      },
    ),
    { ...RUNS, numRuns: 5 },
  )
})

test('the first span of a member needs no window', async () => {
  const parts = Array.from({ length: 20 }, (_, index) =>
    buildTar([{ name: `${index}`, data: Buffer.from(`${index} `.repeat(9000)) }]).subarray(0, -1024),
  )
  const tar = Buffer.concat([...parts, Buffer.alloc(1024)])
  const blob = Buffer.concat([...parts.map((part) => gzipSync(part)), gzipSync(Buffer.alloc(1024))])
  const made = await makeIndex(blob, { spanBytes: 20_000, pieceBytes: 1000, isAhead: false })
  assert.ok(made !== undefined)
  const index = readLazyIndex(made, DEFAULT_LAYER_LIMITS)
  assert.ok(index.spans.count >= 19)
  for (let span = 0; span < index.spans.count; span += 1) assert.equal(index.window(span).length, 0)
  checkSpans(index, blob, tar)
})

test('an index that is cut off or changed in its structure is refused', async () => {
  const tar = buildTar([{ name: 'x', data: Buffer.from('some text '.repeat(20_000)) }])
  const blob = gzipSync(tar, { memLevel: 1 })
  const made = await makeIndex(blob, { spanBytes: 10_000, pieceBytes: 1000, isAhead: false })
  assert.ok(made !== undefined)
  const refused = { code: 'LAZY_INDEX_INVALID' }
  for (let bytes = 0; bytes < made.length; bytes += 1)
    assert.throws(() => readLazyIndex(made.subarray(0, bytes), DEFAULT_LAYER_LIMITS), refused)
  assert.throws(() => readLazyIndex(Buffer.concat([made, Buffer.alloc(1)]), DEFAULT_LAYER_LIMITS), refused)
  assert.throws(() => readLazyIndex(made, { ...DEFAULT_LAYER_LIMITS, tarBytes: 1000 }), {
    code: 'LAYER_LIMIT',
  })
})

test('damaged bytes of a span are refused, and never give more than was asked for', () => {
  const plain = Buffer.from('some text '.repeat(5000))
  const bytes = deflateRawSync(plain)
  const request = {
    compression: 'gzip',
    bytes,
    bit: 0,
    window: Buffer.alloc(0),
    lengthBytes: plain.length,
  } as const
  assert.ok(inflateSpan(request).equals(plain))
  assert.throws(() => inflateSpan({ ...request, bytes: bytes.subarray(0, 20) }), {
    code: 'COMPRESSION_INVALID',
  })
  assert.throws(() => inflateSpan({ ...request, lengthBytes: plain.length + 1 }), {
    code: 'COMPRESSION_INVALID',
  })
  assert.throws(() => inflateSpan({ ...request, bytes: Buffer.alloc(100, 0xff) }), {
    code: 'COMPRESSION_INVALID',
  })
})
