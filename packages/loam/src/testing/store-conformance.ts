import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Digest, isDigest } from '../image/index.ts'
import type { GetOptions, PruneOptions, Store, StoredImage } from '../stores/index.ts'

/** A store under test, with a location that its images come from. */
export interface StoreUnderTest<Source> extends AsyncDisposable {
  readonly store: Store<Source>
  /** Opens the source of an image that the location has: of two layers, the second of which is also the base of `other`. */
  readonly open: (image: 'first' | 'other' | 'missing') => Promise<Source>
  /** Number of requests to the location since the last call. */
  readonly takeRequests: () => number
  /** The files with data that the location has sent since the last call. */
  readonly takeTransfers: () => readonly string[]
  /** Name of an image in the store. */
  readonly nameOf: (image: 'first' | 'other') => string
  /** Destroys a layer's data, so that it is missing. */
  readonly loseLayer: (diffId: Digest) => void
  /** Makes a fetch wait until the returned function is called. */
  readonly stallSource: () => () => void
  /** Opens the same store as a new process would. */
  readonly reopen: () => Promise<Store<Source>>
  /** Closes all sources, and lists remaining unfinished work. */
  readonly leftovers: () => Promise<readonly string[]>
  /** Records that a container uses the image's layers, until it is disposed. */
  readonly use: (image: StoredImage) => Promise<AsyncDisposable>
}

const CACHED: GetOptions = { cached: true }
const FRESH: GetOptions = { cached: false }
const PRUNE: PruneOptions = { dryRun: false, excluded: [], named: true, local: true }

/** Registers the tests that every store of images has to pass. `make` gives each of them a store of its own. */
export function storeConformance<Source>(name: string, make: () => Promise<StoreUnderTest<Source>>): void {
  const check = (what: string, act: (world: StoreUnderTest<Source>) => Promise<void>): void => {
    void test(`${name}: ${what}`, async () => {
      await using world = await make()
      await act(world)
    })
  }

  check(
    'a store reads through: it asks the location once, then works without it',
    async ({ store, open, takeRequests }) => {
      using first = await store.get(await open('first'), CACHED)
      assert.equal(first.layers.length, 2)
      assert.ok(first.layers.every(({ diffId }) => isDigest(diffId)))
      assert.ok(takeRequests() > 0)
      using again = await store.get(await open('first'), CACHED)
      assert.equal(takeRequests(), 0)
      assert.equal(again.record.digest, first.record.digest)
    },
  )

  check(
    'a store asks again for an uncached request, and fetches no layer that it has',
    async ({ store, open, takeRequests }) => {
      using first = await store.get(await open('first'), CACHED)
      const all = takeRequests()
      using again = await store.get(await open('first'), FRESH)
      const asked = takeRequests()
      assert.ok(asked > 0 && asked <= all)
      assert.deepEqual(again.layers, first.layers)
    },
  )

  check(
    'a store finds its images again when it is reopened',
    async ({ store, open, takeRequests, reopen }) => {
      using first = await store.get(await open('first'), CACHED)
      takeRequests()
      const other = await reopen()
      assert.deepEqual((await other.recover()).swept, [])
      using again = await other.get(await open('first'), CACHED)
      assert.equal(takeRequests(), 0)
      assert.equal(again.record.digest, first.record.digest)
    },
  )

  check('a store repairs a layer that went missing', async ({ store, open, loseLayer }) => {
    const lost = await lostLayer(store, await open('first'))
    loseLayer(lost)
    using healed = await store.get(await open('first'), CACHED)
    assert.ok(healed.layers.some(({ diffId }) => diffId === lost))
  })

  check('a store fetches once for many callers, and a caller that leaves stops no other', async (world) => {
    const { store, open, takeTransfers, stallSource } = world
    const letGo = stallSource()
    const leaver = new AbortController()
    const gets = [CACHED, CACHED, { ...CACHED, signal: leaver.signal }].map(async (options) =>
      store.get(await open('first'), options),
    )
    const settled = Promise.allSettled(gets)
    setTimeout(() => {
      leaver.abort()
      setTimeout(letGo, 50)
    }, 100)
    const results = await settled
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'rejected'],
      results.map((result) => (result.status === 'rejected' ? String(result.reason) : '')).join(),
    )
    const images = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    assert.equal(new Set(images.map(({ record }) => record.digest)).size, 1)
    for (const image of images) image[Symbol.dispose]()
    const transfers = takeTransfers()
    assert.deepEqual(transfers, [...new Set(transfers)])
    assert.deepEqual(await world.leftovers(), [])
  })

  check(
    'a fetch stops when all callers have left, and leaves nothing',
    async ({ store, open, stallSource, leftovers }) => {
      const letGo = stallSource()
      const leaver = new AbortController()
      const gets = [1, 2].map(async () =>
        store.get(await open('first'), { ...CACHED, signal: leaver.signal }),
      )
      setTimeout(() => {
        leaver.abort()
      }, 100)
      for (const result of await Promise.allSettled(gets)) assert.equal(result.status, 'rejected')
      letGo()
      assert.deepEqual(await leftovers(), [])
      using later = await store.get(await open('first'), CACHED)
      assert.equal(later.layers.length, 2)
    },
  )

  check(
    'a store fails for an image that the location does not have, records nothing, and tries again',
    async ({ store, open, leftovers }) => {
      for (const _try of [1, 2]) await assert.rejects(async () => store.get(await open('missing'), CACHED))
      assert.deepEqual(await leftovers(), [])
      assert.deepEqual((await store.prune({ ...PRUNE, dryRun: true })).images, [])
    },
  )

  check('a store prunes unused images and layers, and a dry run reports them', async ({ store, open }) => {
    await release(store, await open('first'))
    await release(store, await open('other'))
    const would = await store.prune({ ...PRUNE, dryRun: true })
    assert.deepEqual([would.images.length, would.layers.length], [2, 3])
    const did = await store.prune(PRUNE)
    assert.deepEqual([did.images.length, did.layers.length], [2, 3])
    assert.deepEqual((await store.prune(PRUNE)).images, [])
  })

  check('a store keeps excluded images with all that they need', async ({ store, open, nameOf }) => {
    await release(store, await open('first'))
    await release(store, await open('other'))
    const pruned = await store.prune({ ...PRUNE, excluded: [nameOf('first')] })
    assert.equal(pruned.images.length, 1)
    // The layer of both images stays.
    assert.equal(pruned.layers.length, 1)
    assert.deepEqual(
      (await store.prune({ ...PRUNE, excluded: ['no such image', nameOf('first')] })).images,
      [],
    )
  })

  check(
    'a store keeps the images of containers, and the active layers of a caller',
    async ({ store, open, use }) => {
      using image = await store.get(await open('first'), CACHED)
      const [base] = image.layers
      assert.ok(base !== undefined)
      {
        await using _used = await use(image)
        assert.deepEqual((await store.prune(PRUNE)).images, [])
      }
      image[Symbol.dispose]()
      const pruned = await store.prune({ ...PRUNE, active: new Set([base.diffId]) })
      assert.deepEqual([pruned.images.length, pruned.layers.length], [1, 1])
    },
  )

  check(
    'a store prunes while an image is being fetched, and removes nothing of it',
    async ({ store, open, stallSource }) => {
      await release(store, await open('other'))
      const letGo = stallSource()
      const getting = store.get(await open('first'), CACHED)
      const pruning = sleep(100)
        .then(async () => store.prune(PRUNE))
        .finally(letGo)
      const [image] = await Promise.all([getting, pruning])
      using held = image
      assert.equal(held.layers.length, 2)
      // It has leases: its layers stay in any prune.
      assert.deepEqual((await store.prune({ ...PRUNE, only: new Set() })).layers, [])
    },
  )
}

async function release<Source>(store: Store<Source>, source: Source): Promise<void> {
  using _image = await store.get(source, CACHED)
}

async function lostLayer<Source>(store: Store<Source>, source: Source): Promise<Digest> {
  using image = await store.get(source, CACHED)
  const [base] = image.layers
  assert.ok(base !== undefined)
  return base.diffId
}
