import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { sparseEntry } from '../../test/model/sparse-entry.ts'
import { packedBy } from '../../test/support/packing.ts'
import { randomLayer } from '../../test/support/random-layers.ts'
import { packChunked } from '../../test/support/zstd-chunked.ts'
import { digestOf, parseDiffId } from '../image/index.ts'
import { chunkedRange, parseChunkedLayer } from '../lazy-index/index.ts'
import { WorkerPool } from '../layers/worker-pool.ts'
import { buildTar, LOWER_LINK, ODD_BASE, ODD_TOP, ODD_UNLISTED } from '../testing/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'

const limits = DEFAULT_LAYER_LIMITS

describe('the lazy index of a blob', () => {
  let folder: string
  let pool: WorkerPool
  let count = 0
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'loam-lazy-index-'))
    pool = new WorkerPool(1)
  })
  after(async () => {
    await pool[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  })

  const newPath = () => join(folder, String((count += 1)))
  async function* inPieces(blob: Buffer): AsyncGenerator<Buffer> {
    for (let at = 0; at < blob.length; at += 5000) yield Buffer.from(blob.subarray(at, at + 5000))
  }
  const blobOf = (blob: Buffer) => ({ digest: digestOf(blob), sizeBytes: blob.length })
  const ingest = async (blob: Buffer, tar: Buffer) => {
    const directory = newPath()
    const diffId = parseDiffId(digestOf(tar))
    const rest = { unpack: false, syncEarly: false, lazyIndex: true, limits }
    const task = { kind: 'ingest', blob: blobOf(blob), diffId, directory, ...rest } as const
    const result = await pool.run(task, { source: () => inPieces(blob) })
    return { directory, result }
  }
  const makeIndex = async (blob: Buffer, diffId: Buffer, target = newPath()) => {
    const task = {
      kind: 'lazy-index',
      blob: blobOf(blob),
      diffId: parseDiffId(digestOf(diffId)),
      target,
      limits,
    } as const
    const hasIndex = await pool.run(task, { source: () => inPieces(blob) })
    return { hasIndex, target }
  }
  const describeLayer = async (indexPath: string, metaPath = newPath()) => {
    const indexDigest = digestOf(readFileSync(indexPath))
    return pool.run({ kind: 'skeleton', indexPath, indexDigest, metaPath, limits })
  }

  test('the tree of an index that names the diffID of another layer is not used for that layer', async () => {
    const [right, wrong] = ['right', 'wrong'].map((name) => buildTar([{ name, data: 'x' }]))
    assert.ok(right !== undefined && wrong !== undefined)
    const { directory } = await ingest(gzipSync(wrong), wrong)
    const lie = readFileSync(join(directory, 'layer.lazy-index'), 'latin1')
    const indexPath = newPath()
    writeFileSync(indexPath, lie.replace(digestOf(wrong), digestOf(right)), 'latin1')
    const describedAs = (await describeLayer(indexPath)).diffId
    assert.equal(describedAs, digestOf(right))
    const sound = await ingest(gzipSync(right), right)
    const tarPath = join(sound.directory, 'layer.tar')
    const layer = { diffId: describedAs, tarPath, metaPath: undefined, clonePath: undefined }
    const target = newPath()
    await pool.run({ kind: 'build', artifact: 'flat', layers: [layer], target, limits })
    assert.deepEqual(readdirSync(target), ['right'])
  })

  test('a lazy index gives the same metadata image and summary as the ingest of the layer', async () => {
    const check = async (tar: Buffer) => {
      const blob = gzipSync(tar, { memLevel: 1 })
      const { directory, result } = await ingest(blob, tar)
      const index = join(directory, 'layer.lazy-index')
      const { target } = await makeIndex(blob, tar)
      assert.ok(readFileSync(target).equals(readFileSync(index)), 'both ways give the same index')
      const metaPath = newPath()
      const described = await describeLayer(index, metaPath)
      assert.ok(
        readFileSync(metaPath).equals(readFileSync(join(directory, 'layer.erofs'))),
        'another metadata image',
      )
      const { spans, access, ...layer } = described
      assert.deepEqual(layer, { blob: blobOf(blob), ...result })
      assert.ok(access === 'random' && spans > 0)
    }
    for (const odd of [ODD_BASE, ODD_TOP, ODD_UNLISTED, LOWER_LINK]) await check(buildTar([...odd]))
    await fc.assert(
      fc.asyncProperty(randomLayer, async ({ tar }) => check(tar)),
      { numRuns: 20 },
    )
  })

  test('a zstd blob and a plain tar have an index too, and one of bzip2 has none', async () => {
    const tar = buildTar([{ name: 'x', data: 'x'.repeat(10_000) }])
    for (const blob of [zstdCompressSync(tar), tar]) {
      const { hasIndex, target } = await makeIndex(blob, tar)
      assert.ok(hasIndex)
      assert.equal((await describeLayer(target)).spans, 1)
    }
    const { hasIndex, target } = await makeIndex(readFileSync(packedBy('bzip2', folder, tar)), tar)
    assert.ok(!hasIndex && !existsSync(target))
  })

  test('a blob with another digest, or another layer, gets no index', async () => {
    const tar = buildTar([{ name: 'x', data: 'x' }])
    const target = newPath()
    const blob = gzipSync(tar)
    await assert.rejects(makeIndex(blob, Buffer.from('another'), target), { code: 'DIGEST_MISMATCH' })
    const changed = Buffer.from(blob)
    changed[4] = 1
    const task = {
      kind: 'lazy-index',
      blob: blobOf(blob),
      diffId: parseDiffId(digestOf(tar)),
      target,
      limits,
    } as const
    await assert.rejects(pool.run(task, { source: () => inPieces(changed) }), { code: 'DIGEST_MISMATCH' })
    assert.ok(!existsSync(target))
  })

  test('a sparse file is described by an index only if a metadata image needs none of its data', async () => {
    const attributes = { mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, xattrs: {} }
    const withSegment = (offset: number) =>
      Buffer.concat([
        sparseEntry(Buffer.from('sparse'), attributes as never, {
          size: 100_000,
          segments: [{ offset, data: Buffer.alloc(1024, 'x') }],
        }),
        buildTar([{ name: 'other', data: 'x' }]),
      ])
    for (const [offset, hasIndex] of [
      [8192, true],
      [8000, false],
    ] as const) {
      const tar = withSegment(offset)
      const made = await makeIndex(gzipSync(tar), tar)
      assert.equal(made.hasIndex, hasIndex)
      const { directory } = await ingest(gzipSync(tar), tar)
      assert.equal(existsSync(join(directory, 'layer.lazy-index')), hasIndex)
    }
  })

  test('the tables of a zstd:chunked blob come in pieces of any size; fewer or more bytes than their range are refused', async () => {
    const names = Array.from({ length: 300 }, (_, number) => ({
      name: `file${number}`,
      data: 'x'.repeat(number),
    }))
    const tar = buildTar(names)
    const { blob, annotations } = packChunked(tar, 1000)
    const layer = parseChunkedLayer(annotations, blob.length)
    assert.ok(layer !== undefined)
    const { offset, lengthBytes } = chunkedRange(layer)
    const make = async (end: number, sizes: readonly number[]) => {
      const target = newPath()
      const task = { kind: 'chunked-index', blob: blobOf(blob), diffId: parseDiffId(digestOf(tar)) } as const
      const bytes = Buffer.concat([blob, Buffer.alloc(100)]).subarray(offset, end)
      async function* source() {
        for (let at = 0, number = 0; at < bytes.length; number += 1) {
          const size = sizes[number % sizes.length] ?? 1
          yield Buffer.from(bytes.subarray(at, at + size))
          at += size
        }
      }
      await pool.run({ ...task, layer, target, limits }, { source })
      return readFileSync(target)
    }
    const end = offset + lengthBytes
    const expected = await make(end, [lengthBytes])
    const sizes = fc.array(fc.integer({ min: 1, max: lengthBytes }), { minLength: 1, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: -50, max: 50 }), async (pieces, over) => {
        assert.ok((await make(end, pieces)).equals(expected))
        if (over !== 0) await assert.rejects(make(end + over, pieces), { code: 'SIZE_MISMATCH' })
      }),
      { numRuns: 40 },
    )
  })

  test('an index that is damaged leaves no metadata image that could be used', async () => {
    const indexPath = newPath()
    writeFileSync(indexPath, 'LOAMLZ01 and more')
    const metaPath = newPath()
    await assert.rejects(describeLayer(indexPath, metaPath), { code: 'LAZY_INDEX_INVALID' })
    assert.ok(!existsSync(metaPath))
  })
})
