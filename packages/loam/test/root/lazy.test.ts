// Partial layers of a registry, mounted by the kernel, and the handler that fills them.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { layerPath } from '../../src/content/index.ts'
import { digestOf } from '../../src/image/index.ts'
import { readSpanMap } from '../../src/layers/span-map.ts'
import { findHolders, readBootId } from '../../src/linux/index.ts'
import { LazyStore } from '../support/lazy-store.ts'

const RIGHT = { wrong: [], failed: [] }

test('every file of partial layers is read right while they are filled, and they become complete layers', async () => {
  await using store = await LazyStore.create()
  await store.show()
  const reads = await Promise.all([store.read(), store.read()])
  for (const read of reads) assert.deepEqual(store.compare(read), RIGHT)
  for (const diffId of store.diffIds) {
    const progress: number[] = []
    await store.client.complete(diffId, { onProgress: (presentBytes) => progress.push(presentBytes) })
    assert.equal(store.metadata.layers.find(diffId)?.data, 'complete')
    assert.equal(store.metadata.layers.findArtifact(diffId, 'tar')?.bootId, readBootId())
    assert.equal(existsSync(join(layerPath(store.paths, diffId), 'layer.spans')), false)
    assert.equal(digestOf(readFileSync(store.tarPath(diffId))), diffId)
    assert.deepEqual(
      progress,
      progress.toSorted((a, b) => a - b),
    )
  }
  assert.deepEqual(store.compare(await store.read()), RIGHT)
  assert.notEqual(await store.client.status(), undefined, 'it stays for the next layer of this process')
  // With nothing to serve it ends by itself, and its holder with it.
  store.client.release()
  while ((await store.client.status()) !== undefined) await sleep(50)
  assert.equal(existsSync(join(store.state, 'lazy/holder.json')), false)
})

test('a holder that was killed is replaced, so that the descriptors outlive the handler again', async () => {
  await using store = await LazyStore.create({ layers: 1, files: 12 })
  store.registry.intercept = (request) => request.url?.includes('/blobs/') === true
  await store.client.serve(store.diffIds)
  // There are two, or none is seen, while the handler replaces one by another.
  const untilHeld = async (but?: number) => {
    for (;;) {
      const holders = findHolders(join(store.state, 'lazy'))
      if (holders.length === 1 && holders[0]?.pid !== but) return holders[0]?.pid ?? 0
      await sleep(50)
    }
  }
  const killed = await untilHeld()
  process.kill(killed, 'SIGKILL')
  assert.notEqual(await untilHeld(killed), killed)
})

test('a layer that is forgotten is not served any more, and its spans that are here are kept for the next time', async () => {
  await using store = await LazyStore.create({ layers: 1, files: 100 })
  // Of nine.
  let left = 2
  store.registry.intercept = (request) => request.url?.includes('/blobs/') === true && (left -= 1) < 0
  await store.client.serve(store.diffIds)
  const mapPath = join(layerPath(store.paths, store.diffId), 'layer.spans')
  const here = () =>
    readSpanMap(mapPath, store.index.spans.count, readBootId())?.filter((state) => state === 1)
  while (here()?.length === 0) await sleep(20)
  await store.client.forget(store.diffIds)
  const kept = here()?.length ?? 0
  assert.ok(kept > 0 && kept < store.index.spans.count)
  store.client.release()
  while ((await store.client.status()) !== undefined) await sleep(50)
  store.registry.intercept = () => false
  const asked = store.registry.requests.length
  await store.client.complete(store.diffId)
  assert.equal(digestOf(readFileSync(store.tarPath(store.diffId))), store.diffId)
  assert.ok(store.registry.requests.length > asked)
})

test('what is read first is recorded, and is fetched first when the layer is cold again', async () => {
  await using store = await LazyStore.create({ layers: 1 })
  const { spans } = store.index
  store.registry.intercept = (request, response) => {
    if (request.url?.includes('/blobs/') !== true) return false
    setTimeout(() => {
      store.registry.answer(request, response)
    }, 200)
    return true
  }
  const { indexDigest = digestOf(Buffer.alloc(0)) } = store.metadata.layers.partialSource(store.diffId) ?? {}
  const expected = spans.count - 3
  await store.metadata.lazy.addProfile(store.diffId, { indexDigest, spans: [expected] })
  await store.show()
  await store.read([...store.sums.keys()].slice(-2))
  await store.client.complete(store.diffId)
  const [first] = store.registry.headers.flatMap(({ headers }) => headers.range ?? [])
  assert.ok(first?.startsWith(`bytes=${spans.blobStarts[expected]}-`) === true, first ?? 'no range')
  const recorded = store.metadata.lazy.profileOf(store.diffId)?.spans ?? []
  assert.deepEqual([recorded[0], recorded.length > 1], [expected, true])
  assert.ok(recorded.includes(spans.count - 1), 'the span of the last file was read')
})
