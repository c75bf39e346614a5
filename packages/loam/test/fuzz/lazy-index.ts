// Lazy indexes as a publisher may have damaged or forged them: structure, windows, and the tree of the skeleton.
import assert from 'node:assert/strict'
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import { decompress, inflateSpan } from '../../src/compression/index.ts'
import { isLoamError } from '../../src/errors/index.ts'
import { digestOf, parseDiffId } from '../../src/image/index.ts'
import { LazyIndexMaker, readLazyIndex, readSkeleton } from '../../src/lazy-index/index.ts'
import { TarReader } from '../../src/tar/index.ts'
import { buildTar, ODD_BASE } from '../../src/testing/index.ts'
import { LayerTreeBuilder } from '../../src/tree/index.ts'
import type { Target } from './engine.ts'

const LIMITS = {
  depth: 40,
  tarBytes: 1 << 20,
  entries: 5000,
  fileBytes: 2 ** 40,
  xattrBytes: 1 << 20,
  ratio: 1000,
}
const HEAD_START = 12

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield Buffer.from(bytes)
}

async function indexOf(blob: Buffer, tar: Buffer, spanBytes: number): Promise<Buffer> {
  const reader = new TarReader(() => undefined)
  const maker = new LazyIndexMaker(reader, { spanBytes })
  for await (const chunk of decompress(once(blob), { checkpoints: maker })) maker.write(chunk)
  reader.end()
  const of = {
    blob: { digest: digestOf(blob), sizeBytes: blob.length },
    diffId: parseDiffId(digestOf(tar)),
    tarBytes: tar.length,
  }
  return Buffer.concat(maker.end(of) ?? [])
}

const SMALL = buildTar([{ name: 'x', data: Buffer.alloc(3000, 'abc') }, { name: 'd/' }])
const BLOCKS = buildTar([{ name: 'x', data: 'some text '.repeat(1000) }, ...ODD_BASE])
const SEEDS = await Promise.all([
  indexOf(gzipSync(SMALL), SMALL, 1 << 20),
  indexOf(gzipSync(BLOCKS, { memLevel: 1, strategy: constants.Z_HUFFMAN_ONLY }), BLOCKS, 2000),
  indexOf(zstdCompressSync(SMALL), SMALL, 1 << 20),
  indexOf(SMALL, SMALL, 1000),
])

/** Corrects the sizes in the head: otherwise most changes would only be refused for them. */
function repair(input: Buffer): Buffer {
  if (input.length < HEAD_START) return input
  const start = input.indexOf('}}', HEAD_START) + 2
  if (start < HEAD_START) return input
  input.writeUInt32LE(start - HEAD_START, 8)
  return input
}

export const LAZY_INDEX: Target = {
  name: 'lazy-index',
  seeds: () => SEEDS,
  words: [
    'LOAMLZ01',
    '"spans":',
    '"tarBytes":',
    '"gzip"',
    '"zstd"',
    '"none"',
    '"sequential"',
    '"random"',
    '}}',
    '\x28\xb5\x2f\xfd',
  ],
  maxBytes: 20_000,
  repair,
  run: (input) => {
    const index = readLazyIndex(input, LIMITS)
    const { count, blobStarts, tarStarts, bits } = index.spans
    assert.ok(count <= index.tarBytes, 'more spans than bytes')
    assert.equal(blobStarts.length, count + 1)
    for (let span = 0; span < count; span += 1) {
      const lengthBytes = (tarStarts[span + 1] ?? 0) - (tarStarts[span] ?? 0)
      assert.ok(lengthBytes > 0 && lengthBytes <= 32 << 20, 'a span has no size')
      const window = answer(() => index.window(span))
      assert.ok((window?.length ?? 0) <= 32 << 10, 'a window is too large')
      if (span > 3 || window === undefined || lengthBytes > 1 << 20) continue
      const bit = bits[span] ?? 0
      const { compression } = index
      const output = answer(() => inflateSpan({ compression, bytes: input, bit, window, lengthBytes }))
      if (output !== undefined) assert.equal(output.length, lengthBytes)
    }
    const builder = new LayerTreeBuilder(LIMITS)
    const reader = new TarReader((entry) => {
      builder.add(entry)
    })
    let end = 0
    for (const { tarStart, bytes } of readSkeleton(index.skeletonPieces(), index.tarBytes, reader)) {
      assert.ok(tarStart >= end, 'pieces of the skeleton overlap')
      end = tarStart + bytes.length
      assert.ok(end <= index.tarBytes, 'the skeleton is outside of the tar')
    }
  },
}

function answer<T>(act: () => T): T | undefined {
  try {
    return act()
  } catch (error) {
    if (isLoamError(error)) return undefined
    throw error
  }
}
