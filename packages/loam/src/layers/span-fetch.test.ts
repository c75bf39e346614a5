import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { constants, gzipSync } from 'node:zlib'
import { IngestArea, LazyIndexDirectory, openStoreRoot, RetainedBlobs } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { type Digest, digestOf, parseDiffId } from '../image/index.ts'
import { MetadataStore } from '../metadata/index.ts'
import { buildTar } from '../testing/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import { LayerStore, WorkerPool } from './index.ts'
import type { WantedLayer } from './wanted-layer.ts'
import { SpanFetch } from './span-fetch.ts'

/** Text with few repetitions, so that blocks and spans are many. */
const words = (count: number) =>
  Array.from({ length: count }, (_, index) => ((index * 2_654_435_761) % 4_294_967_296).toString(36)).join(
    ' ',
  )
const tar = buildTar([
  { name: 'large', data: words(400_000) },
  { name: 'small', data: 'x' },
  { name: 'large-2', data: words(300_000) },
])
const blob = gzipSync(tar, { level: 1, strategy: constants.Z_HUFFMAN_ONLY })
const diffId = parseDiffId(digestOf(tar))
const descriptor = { digest: digestOf(blob), sizeBytes: blob.length }
const limits = DEFAULT_LAYER_LIMITS

type Opened = Parameters<WantedLayer['open']>[0]

/** Returns an index with the skeleton of another one. */
function withSkeleton(index: Buffer, other: Buffer): Buffer {
  const [to, from] = [partsOf(index), partsOf(other)]
  const sections = { ...to.head.sections, skeleton: from.skeleton.length }
  const head = Buffer.from(JSON.stringify({ ...to.head, sections }))
  const size = Buffer.alloc(4)
  size.writeUInt32LE(head.length)
  return Buffer.concat([index.subarray(0, 8), size, head, from.skeleton, to.rest])
}

function partsOf(index: Buffer) {
  const start = 12 + index.readUInt32LE(8)
  const head = JSON.parse(index.subarray(12, start).toString()) as { sections: { skeleton: number } }
  const end = start + head.sections.skeleton
  return { head, skeleton: index.subarray(start, end), rest: index.subarray(end) }
}

describe('the fetch of a large layer by its lazy index', () => {
  let folder: string
  let pool: WorkerPool
  let index: Buffer
  let expected: Buffer
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'loam-spans-'))
    pool = new WorkerPool(3)
    const directory = join(folder, 'made')
    const rest = { directory, unpack: false, syncEarly: false, lazyIndex: true, limits }
    await pool.run({ kind: 'ingest', blob: descriptor, diffId, ...rest }, { source: () => pieces({}) })
    index = readFileSync(join(directory, 'layer.lazy-index'))
    expected = readFileSync(join(directory, 'layer.erofs'))
  })
  after(async () => {
    await pool[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  })

  async function* pieces({ offset = 0, lengthBytes }: Partial<Opened>, from = blob): AsyncGenerator<Buffer> {
    const end = lengthBytes === undefined ? from.length : offset + lengthBytes
    for (let at = offset; at < end; at += 100_000)
      yield Buffer.from(from.subarray(at, Math.min(end, at + 100_000)))
  }

  /** Fetches the layer into a store of its own. Returns the requests; undefined stands for one of the whole blob. */
  const fetch = async (change: {
    open?: WantedLayer['open']
    index?: Buffer | undefined
    shared?: Buffer
    directory?: LazyIndexDirectory
    signal?: AbortSignal
    /** The index is not kept. */
    isWrong?: boolean
    denied?: Digest
  }): Promise<(number | undefined)[]> => {
    const root = mkdtempSync(join(folder, 'store-'))
    const paths = openStoreRoot(join(root, 'root'))
    using metadata = await MetadataStore.open(paths.database, { lockFile: join(paths.locks, 'metadata') })
    await using area = new IngestArea(paths)
    if (change.denied !== undefined) await metadata.layers.denyIndex(change.denied, 'it lied')
    const shared = new LazyIndexDirectory(join(root, 'shared'))
    if (change.shared !== undefined) await shared.write(descriptor.digest, change.shared)
    const layers = new LayerStore({
      ...{ paths, metadata, workers: pool, writers: pool, ingest: () => area, limits, bootId: 'boot' },
      retained: new RetainedBlobs(paths, { mode: 'none', maxAgeMs: 0, maxBytes: 0 }),
      spans: new SpanFetch({ workers: pool, limits, minBlobBytes: 1, segmentBytes: 2 << 20 }),
      indexDirectory: change.directory ?? shared,
    })
    const requests: (number | undefined)[] = []
    const open = (options: Opened) => {
      requests.push(options.lengthBytes)
      return (change.open ?? pieces)(options)
    }
    const lazyIndex = async () => change.index
    const wanted = { diffId, blob: descriptor, open, lazyIndex, isResumable: true, isRemote: true }
    try {
      const lease = await layers.lease(wanted, { signal: change.signal })
      lease.release()
      const made = join(paths.layers, diffId)
      assert.ok(readFileSync(join(made, 'layer.tar')).equals(tar))
      assert.ok(readFileSync(join(made, 'layer.erofs')).equals(expected))
      // An index that has served to fetch the layer is right.
      const isRight = !requests.includes(undefined) && change.isWrong !== true
      assert.equal(existsSync(join(made, 'layer.lazy-index')), isRight)
    } finally {
      await layers.settle()
      assert.deepEqual(readdirSync(area.path), [])
    }
    return requests
  }

  test('ranges are fetched and decompressed apart, and the layer is the same as by an ordinary pull', async () => {
    const requests = await fetch({ index })
    assert.ok(requests.length > 1 && !requests.includes(undefined), String(requests))
    assert.deepEqual(await fetch({ index: undefined }), [undefined])
    const shared = await fetch({ shared: index })
    assert.deepEqual(shared, requests)
  })

  test('the tar is read to its end, also if several segments become complete at once', async () => {
    const directory = join(folder, 'assembled')
    mkdirSync(directory)
    writeFileSync(join(directory, 'layer.tar'), tar)
    writeFileSync(join(directory, 'layer.lazy-index'), index)
    const place = (value: number) => {
      const bytes = Buffer.alloc(8)
      bytes.writeDoubleLE(value)
      return bytes
    }
    const source = async function* source() {
      yield place(1000)
      yield Buffer.concat([place(2000), place(tar.length)])
    }
    const task = { kind: 'assemble', diffId, tarBytes: tar.length, directory, unpack: false, limits } as const
    await pool.run(task, { source })
    assert.ok(readFileSync(join(directory, 'layer.erofs')).equals(expected))
  })

  test('a shared directory of indexes that may not be read is passed over', async () => {
    class Refused extends LazyIndexDirectory {
      override async find(): Promise<never> {
        throw new LoamError('PERMISSION_DENIED', `read ${this.path}`)
      }
    }
    const directory = new Refused('/refused')
    assert.deepEqual(await fetch({ directory }), [undefined])
    assert.ok(!(await fetch({ directory, index })).includes(undefined), 'the index of the caller is used')
  })

  test('a wrong index, and a source that sends other bytes or no ranges, cost time and nothing else', async () => {
    const lastSum = Buffer.from(index)
    for (let at = lastSum.length - 5; at > lastSum.length - 200; at -= 1)
      lastSum[at] = (lastSum[at] ?? 0) ^ 0x55
    const tried = async (change: Parameters<typeof fetch>[0]) => {
      const requests = await fetch(change)
      assert.equal(requests.at(-1), undefined)
    }
    await tried({ index: lastSum })
    await tried({ index: Buffer.from('LOAMLZ01') })
    await tried({ index: Buffer.concat([index, Buffer.from('x')]) })
    const damaged = Buffer.from(blob)
    damaged[blob.length >> 1] = (damaged[blob.length >> 1] ?? 0) ^ 1
    await tried({
      index,
      open: (options) => pieces(options, options.lengthBytes === undefined ? blob : damaged),
    })
    await tried({
      index,
      open: (options) => {
        options.onWhole?.()
        return pieces(options.lengthBytes === undefined ? {} : { lengthBytes: blob.length })
      },
    })
    await tried({
      index,
      open: async function* open(options) {
        if (options.lengthBytes !== undefined) throw new Error('the connection was reset')
        yield* pieces(options)
      },
    })
  })

  test('an index whose spans are right and whose tree is not is not kept beside the layer', async () => {
    const other = buildTar([
      { name: 'large', data: words(400_000) },
      { name: 'SMALL', data: 'x' },
      { name: 'large-2', data: words(300_000) },
    ])
    const directory = join(folder, 'other')
    const otherBlob = gzipSync(other)
    const task = {
      kind: 'ingest',
      blob: { digest: digestOf(otherBlob), sizeBytes: otherBlob.length },
      diffId: parseDiffId(digestOf(other)),
      ...{ directory, unpack: false, syncEarly: false, lazyIndex: true, limits },
    } as const
    await pool.run(task, { source: () => pieces({}, otherBlob) })
    const lying = withSkeleton(index, readFileSync(join(directory, 'layer.lazy-index')))
    const requests = await fetch({ index: lying, isWrong: true })
    assert.ok(!requests.includes(undefined))
  })

  test('an index that was denied is not tried again', async () => {
    assert.deepEqual(await fetch({ shared: index, denied: digestOf(index) }), [undefined])
  })

  test('a fetch that is canceled ends all of its requests and leaves nothing behind', async () => {
    const controller = new AbortController()
    let opened = 0
    const open = async function* open(options: Opened): AsyncGenerator<Buffer> {
      opened += 1
      yield* pieces({ offset: options.offset ?? 0, lengthBytes: 1000 })
      controller.abort()
      await new Promise((_resolve, reject) => {
        const end = () => {
          opened -= 1
          reject(new Error('aborted'))
        }
        if (options.signal.aborted) end()
        else options.signal.addEventListener('abort', end)
      })
    }
    await assert.rejects(fetch({ index, open, signal: controller.signal }), { code: 'CANCELED' })
    assert.equal(opened, 0)
    writeFileSync(join(folder, 'end'), '')
  })
})
