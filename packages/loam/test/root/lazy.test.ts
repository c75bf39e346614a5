// Partial layers of a registry, mounted by the kernel, and the handler that fills them.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { layerPath } from '../../src/content/index.ts'
import { LazyStore } from '../support/lazy-store.ts'

const RIGHT = { wrong: [], failed: [] }

test('every file of partial layers is read right while they are filled, and they become complete layers', async () => {
  await using store = await LazyStore.create()
  await store.show()
  const reads = await Promise.all([store.read(), store.read()])
  for (const read of reads) assert.deepEqual(store.compare(read), RIGHT)
  for (const diffId of store.diffIds) {
    await store.client.complete(diffId)
    assert.equal(store.metadata.layers.find(diffId)?.data, 'complete')
    assert.equal(existsSync(join(layerPath(store.paths, diffId), 'layer.spans')), false)
  }
  assert.deepEqual(store.compare(await store.read()), RIGHT)
})
