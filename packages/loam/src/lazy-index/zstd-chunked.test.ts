import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { randomLayer } from '../../test/support/random-layers.ts'
import { packChunked } from '../../test/support/zstd-chunked.ts'
import { inflateSpan } from '../compression/index.ts'
import { digestOf, parseDiffId } from '../image/index.ts'
import { TarReader } from '../tar/index.ts'
import { buildTar } from '../testing/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import {
  chunkedRange,
  indexOfChunked,
  type LazyIndex,
  parseChunkedLayer,
  readLazyIndex,
  readSkeleton,
  spanOf,
} from './index.ts'

function indexOf(tar: Buffer, blob: Buffer, annotations: Record<string, string>): LazyIndex {
  const layer = parseChunkedLayer(annotations, blob.length)
  assert.ok(layer !== undefined)
  const { offset, lengthBytes } = chunkedRange(layer)
  const of = { blob: { digest: digestOf(blob), sizeBytes: blob.length }, diffId: parseDiffId(digestOf(tar)) }
  return readLazyIndex(
    indexOfChunked(of, layer, blob.subarray(offset, offset + lengthBytes)),
    DEFAULT_LAYER_LIMITS,
  )
}

function check(tar: Buffer, chunkBytes: number): void {
  const { blob, annotations } = packChunked(tar, chunkBytes)
  const index = indexOf(tar, blob, annotations)
  assert.equal(index.tarBytes, tar.length)
  for (let number = 0; number < index.spans.count; number += 1) {
    const { blobStart, blobEnd, tarStart, lengthBytes, sum } = spanOf(index, number)
    const bytes = blob.subarray(blobStart, blobEnd)
    const plain = inflateSpan({
      compression: 'zstd',
      bytes,
      bit: 0,
      window: index.window(number),
      lengthBytes,
    })
    assert.ok(plain.equals(tar.subarray(tarStart, tarStart + lengthBytes)), `span ${number}`)
    assert.ok(hash('sha256', plain, 'buffer').equals(sum), `sum of span ${number}`)
  }
  for (const { tarStart, bytes } of readSkeleton(
    index.skeletonPieces(),
    tar.length,
    new TarReader(() => undefined),
  ))
    assert.ok(tar.subarray(tarStart, tarStart + bytes.length).equals(bytes))
}

test('a zstd:chunked blob has a lazy index in its own tables, which gives every byte of its tar', () => {
  check(buildTar([]), 100)
  check(buildTar([{ name: 'd/' }, { name: 'empty', data: '' }]), 100)
  check(
    buildTar([
      { name: 'a', data: 'x'.repeat(5000) },
      { name: 'b', data: 'y' },
    ]),
    1000,
  )
  fc.assert(
    fc.property(randomLayer, fc.constantFrom(1, 100, 10_000), ({ tar }, chunkBytes) => {
      check(tar, chunkBytes)
    }),
    { numRuns: 50 },
  )
})

test('tables of a zstd:chunked blob that are not those of its manifest, or contradict each other, give no index', () => {
  const tar = buildTar([
    { name: 'a', data: 'x'.repeat(3000) },
    { name: 'b', data: 'y'.repeat(700) },
  ])
  const { blob, annotations } = packChunked(tar, 1000)
  const refused = { code: 'LAZY_INDEX_INVALID' }
  for (let at = 0; at < blob.length; at += 7) {
    const changed = Buffer.from(blob)
    changed[at] = (changed[at] ?? 0) ^ 0x10
    const layer = parseChunkedLayer(annotations, blob.length)
    assert.ok(layer !== undefined)
    const isInTables = at >= layer.toc.start && at < layer.tarSplit.start + layer.tarSplit.packedBytes
    // The size of a skippable frame, between the two, is not read.
    const isBetween = at >= layer.toc.start + layer.toc.packedBytes && at < layer.tarSplit.start
    if (isInTables && !isBetween) assert.throws(() => indexOf(tar, changed, annotations), refused, String(at))
  }
  const other = packChunked(
    buildTar([
      { name: 'a', data: 'x'.repeat(2999) },
      { name: 'c', data: 'y' },
    ]),
    1000,
  )
  const longer = Buffer.concat([blob, Buffer.alloc(other.blob.length)])
  assert.throws(() => indexOf(tar, longer, other.annotations), refused)
})

function withTables(
  annotations: Record<string, string>,
  toc: string,
  tarSplit: string,
): Record<string, string> {
  return {
    ...annotations,
    'io.github.containers.zstd-chunked.manifest-position': toc,
    'io.github.containers.zstd-chunked.tarsplit-position': tarSplit,
  }
}

test('tables that end after the blob are not used, wherever they are', () => {
  const { annotations } = packChunked(buildTar([{ name: 'a', data: 'x' }]), 1000)
  const bytes = fc.integer({ min: 1, max: 64 << 20 })
  const arbitrary = { start: fc.maxSafeNat(), first: bytes, gap: fc.nat(64 << 10), second: bytes }
  const property = fc.property(
    fc.record({ ...arbitrary, isTocFirst: fc.boolean(), over: fc.integer({ min: -3, max: 3 }) }),
    ({ start, first, gap, second, isTocFirst, over }) => {
      const place = start % 1e15
      const parts = [`${place}:${first}:9`, `${place + first + gap}:${second}:9`]
      const [toc = '', tarSplit = ''] = isTocFirst ? parts : parts.toReversed()
      const end = place + first + gap + second
      // A place has at most 15 digits.
      fc.pre(place + first + gap < 1e15)
      const layer = parseChunkedLayer(withTables(annotations, `${toc}:1`, tarSplit), end - over)
      assert.equal(layer !== undefined, over <= 0)
      if (layer !== undefined)
        assert.deepEqual(chunkedRange(layer), { offset: place, lengthBytes: end - place })
    },
  )
  fc.assert(property, { numRuns: 300 })
})

test('tables that are far apart or overlap are not used: what is between them would be held in memory, too', () => {
  const { annotations } = packChunked(buildTar([{ name: 'a', data: 'x' }]), 1000)
  const parse = (toc: string, tarSplit: string) =>
    parseChunkedLayer(withTables(annotations, toc, tarSplit), 1e9)
  for (const [toc, tarSplit, isUsed] of [
    ['0:100:100:1', '108:100:100', true],
    ['1000:100:100:1', '892:100:100', true],
    ['0:100:100:1', '65636:100:100', true],
    ['0:100:100:1', '65637:100:100', false],
    ['0:100:100:1', '699999900:100:100', false],
    ['699999900:100:100:1', '0:100:100', false],
    ['0:100:100:1', '99:100:100', false],
    ['0:100:100:1', '0:100:100', false],
  ] as const)
    assert.equal(parse(toc, tarSplit) !== undefined, isUsed, `${toc} ${tarSplit}`)
})

test('annotations of other kinds, and those of zstd:chunked without a tar-split, are not used', () => {
  const { blob, annotations } = packChunked(buildTar([{ name: 'a', data: 'x' }]), 1000)
  assert.ok(parseChunkedLayer(annotations, blob.length) !== undefined)
  assert.equal(parseChunkedLayer({}, blob.length), undefined)
  for (const key of Object.keys(annotations)) {
    assert.equal(parseChunkedLayer({ ...annotations, [key]: '' }, blob.length), undefined)
    const longer = { ...annotations, [key]: `${annotations[key]}:9` }
    assert.equal(parseChunkedLayer(longer, blob.length), undefined)
  }
})
