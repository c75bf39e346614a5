// Blobs of one layer in several compressions, each with a lazy index of its own: whichever comes first, and whatever is lost, the tree is right.
import assert from 'node:assert/strict'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { digestOf } from '../../src/image/index.ts'
import { type Loam, openLoam } from '../../src/index.ts'
import { buildImage, buildTar, listTree } from '../../src/testing/index.ts'
import { isFew } from '../support/rounds.ts'
import { LazyWorld } from '../support/lazy-world.ts'
import { DebianRegistry, layoutOf, ok, World } from '../support/world.ts'

const COMPRESSIONS = ['gzip', 'zstd', 'none'] as const
type Compression = (typeof COMPRESSIONS)[number]

const text = (bytes: number) =>
  Array.from({ length: bytes / 64 }, (_, line) => digestOf(Buffer.from(String(line))).slice(7)).join('')
const tar = buildTar([
  { name: 'etc/', mode: 0o755 },
  { name: 'etc/config', data: 'text' },
  { name: 'large', mode: 0o755, data: text(3 << 20) },
  ...Array.from({ length: 20 }, (_, number) => ({ name: `file${number}`, data: text(64 * number) })),
])
const images = new Map(
  COMPRESSIONS.map((compression) => [compression, buildImage({ tars: [tar], compression })]),
)
const [diffId = ''] = images.get('gzip')?.diffIds ?? []

const ORDERS: readonly Compression[][] = COMPRESSIONS.flatMap((first) =>
  COMPRESSIONS.flatMap((second) => {
    const third = COMPRESSIONS.find((each) => each !== first && each !== second)
    return first === second || third === undefined ? [] : [[first, second, third]]
  }),
)

describe('blobs of one layer in several compressions', { timeout: 900_000 }, () => {
  let registry: DebianRegistry
  let maker: World
  let indexes: string
  let expected: string[]
  const nameOf = (compression: Compression) => `${registry.host}/app:${compression}`
  const indexOf = (compression: Compression) =>
    join(indexes, `${images.get(compression)?.layers[0]?.digest}.lazy-index`)

  before(async () => {
    registry = await DebianRegistry.start()
    maker = new World()
    indexes = maker.path('indexes')
    for (const [compression, image] of images) {
      const layout = layoutOf(maker, image, compression)
      ok(maker.loam('pull', layout))
      ok(maker.loam('push', layout, nameOf(compression)))
      ok(maker.loam('index', '--output', indexes, nameOf(compression)))
    }
    expected = listTree(ok(maker.loam('provision', nameOf('gzip'))).stdout.trim())
    ok(maker.loam('prune', '--all'))
  })
  after(() => {
    maker[Symbol.dispose]()
    registry[Symbol.dispose]()
  })

  /** A store of its own. */
  class Store implements AsyncDisposable {
    readonly #world: LazyWorld
    /** Pulls lazily if asked to. */
    readonly #lazy: Loam
    /** Also makes the indexes of what it pulls. */
    readonly #making: Loam

    private constructor(world: LazyWorld, lazy: Loam, making: Loam) {
      this.#world = world
      this.#lazy = lazy
      this.#making = making
    }

    static async open(): Promise<Store> {
      const world = new LazyWorld()
      const common = { root: world.root, state: world.state, lazy_trust: 'own', lazy_index_dir: indexes }
      const open = async (lazyIndex: string) => {
        const flags = { ...common, disk_budget: '1000', lazy_index: lazyIndex }
        return openLoam({ file: null, flags, env: process.env })
      }
      return new Store(world, await open('off'), await open('make'))
    }

    path(name: string): string {
      return join(this.#world.root, 'layers', diffId, name)
    }

    get indexDigest(): string {
      return digestOf(readFileSync(this.path('layer.lazy-index')))
    }

    /** A container of the image has the right tree. Afterwards all data is here. */
    async start(compression: Compression): Promise<void> {
      const { rootfsPath } = await this.#lazy.provision(nameOf(compression), { id: 'c', lazy: true })
      assert.deepEqual(listTree(rootfsPath), expected, compression)
      while ((await this.#lazy.store.partialLayers()).length > 0) await sleep(20)
      assert.ok(readFileSync(this.path('layer.tar')).equals(tar))
      await this.#lazy.destroy('c')
    }

    /** Pulls all data of an image, and makes the index of its blob. */
    async pull(compression: Compression): Promise<void> {
      await this.#making.pull(nameOf(compression), { lazy: false })
      await this.#making.images.index(nameOf(compression))
      assert.ok(readFileSync(this.path('layer.tar')).equals(tar))
    }

    async evict(): Promise<number> {
      const dry = await this.#lazy.images.collect({ dryRun: true })
      const { evicted } = await this.#lazy.images.collect()
      assert.deepEqual(dry.evicted, evicted)
      return evicted.length
    }

    /** The next change of a file is later than what is there, also by a coarse clock. */
    async replaceIndex(by: string): Promise<void> {
      await sleep(20)
      copyFileSync(by, this.path('layer.lazy-index'))
    }

    loseTar(): void {
      writeFileSync(this.path('layer.tar'), 'short')
    }

    async [Symbol.asyncDispose](): Promise<void> {
      await this.#lazy[Symbol.asyncDispose]()
      await this.#making[Symbol.asyncDispose]()
      this.#world[Symbol.dispose]()
    }
  }

  // The rounds of each test take seconds.
  for (const [first = 'gzip', ...others] of isFew ? ORDERS.slice(1, 3) : ORDERS) {
    const order = [first, ...others].join(', ')

    test(`${order}: the first one is pulled lazily, and its index and source stay together`, async () => {
      await using store = await Store.open()
      await store.start(first)
      const own = digestOf(readFileSync(indexOf(first)))
      for (const other of others) {
        assert.equal(await store.evict(), 1)
        await store.pull(other)
        assert.equal(store.indexDigest, own, 'the index of another blob is made, and not kept')
        assert.equal(await store.evict(), 1)
        await store.start(other)
        store.loseTar()
        await store.pull(other)
        assert.equal(store.indexDigest, own, 'the layer is fetched by another blob')
        assert.equal(await store.evict(), 1)
        await store.start(first)

        await store.replaceIndex(indexOf(other))
        assert.equal(await store.evict(), 0)
        await store.start(first)
        await store.replaceIndex(indexOf(first))
        assert.equal(await store.evict(), 1)
        await store.replaceIndex(indexOf(other))
        await store.start(first)
        assert.equal(store.indexDigest, own, 'it was fetched again')
      }
      assert.equal(await store.evict(), 1)
      await store.replaceIndex(indexOf(others[0] ?? first))
      await store.start(others[0] ?? first)
      assert.equal(await store.evict(), 0, 'all of the layer was fetched')
      for (const each of [first, ...others]) await store.start(each)
    })

    test(`${order}: the first one is pulled eagerly, and nothing says later that it was pulled lazily`, async () => {
      await using store = await Store.open()
      await store.pull(first)
      for (const other of others) {
        await store.start(other)
        await store.pull(other)
        assert.equal(await store.evict(), 0)
        store.loseTar()
        await store.start(other)
        assert.equal(await store.evict(), 0)
        await store.start(first)
      }
    })
  }
})
