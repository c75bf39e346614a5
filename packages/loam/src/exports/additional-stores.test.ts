import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { chainIds, type DiffId, digestOf } from '../image/index.ts'
import type { AdditionalImage, ImageRecord } from '../metadata/index.ts'
import { AdditionalStores, type AdditionalStoresOptions } from './additional-stores.ts'

function imageRecord(name: string): ImageRecord {
  const diffId = digestOf(Buffer.from(name)) as DiffId
  const digest = digestOf(Buffer.from(`manifest ${name}`))
  const configDigest = digestOf(Buffer.from(`config ${name}`))
  const layers = [{ diffId, blobDigest: diffId, blobBytes: 1 }]
  return {
    digest,
    configDigest,
    layers,
    pulledAtMs: 0,
    chainId: chainIds([diffId])[0],
  } as unknown as ImageRecord
}

test('an image that is removed from the store as soon as nothing holds it makes no export or unexport fail', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-additional-'))
  const images = ['one', 'two'].map(imageRecord)
  let rows: AdditionalImage[] = []
  const released: string[] = []
  /** A prune that runs at the first moment at which it may. */
  const prune = (without: readonly string[]) => {
    rows = rows.filter(({ name }) => !without.includes(name))
  }
  const isHeld = (digest: string) => rows.some((row) => row.imageDigest === digest)
  const additionalImages = {
    list: () => rows,
    put: (row: AdditionalImage) => {
      prune([row.name])
      rows.push(row)
    },
    remove: (gone: readonly AdditionalImage[]) => {
      prune(gone.map(({ name }) => name))
    },
  }
  let leased = ''
  const supported = { isSupported: true }
  const options = {
    paths: { locks: folder, state: folder },
    metadata: {
      images: {
        find: (digest: string) =>
          images.find((image) => image.digest === digest && (isHeld(digest) || leased === digest)),
      },
      additionalImages,
    },
    layers: { get: () => ({ tarBytes: 1 }), leaseStored: () => ({ [Symbol.dispose]: () => undefined }) },
    blobs: { get: (digest: string) => Buffer.from(digest) },
    stacks: {
      restore: () => [],
      pathOf: (id: string) => `/stacks/${id}`,
      release: (id: string) => released.push(id),
    },
    erofs: { probe: () => supported, accepts: () => supported },
  } as unknown as AdditionalStoresOptions
  const stores = new AdditionalStores(options)
  const directory = join(folder, 'images')
  try {
    for (const image of images) {
      leased = image.digest
      await stores.add({ directory, name: 'app:1', image })
    }
    leased = ''
    assert.deepEqual(released, [images[0]?.chainId])
    assert.deepEqual((await stores.remove(directory, 'app:1')).names, ['app:1'])
    assert.deepEqual(
      released,
      images.map(({ chainId }) => chainId),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})
