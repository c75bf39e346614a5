import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openWiring } from '../../test/support/open-wiring.ts'
import { countTurns } from '../../test/support/turns.ts'
import type { Wiring } from '../app/wiring.ts'
import { digestOf, type DiffId, type Digest, storedReference } from '../image/index.ts'
import { listImages } from './image-list.ts'

const IMAGES = 300
const numbers = Array.from({ length: IMAGES }, (_, index) => index)
const nameOf = (index: number) => `example.test/app:${index}`
const diffIdOf = (text: string) => digestOf(Buffer.from(text), 'sha256') as string as DiffId

describe('the list of a store with many images', () => {
  let folder: string
  let wiring: Wiring
  let digests: Digest[]
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'loam-image-list-'))
    wiring = await openWiring(folder)
    digests = await Promise.all(numbers.map(async (index) => putImage(wiring, index)))
  })
  after(async () => {
    await wiring[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  })

  test('has each image with its own names and layers, and other work runs while it is made', async () => {
    const { result: listed, turns } = await countTurns(async () => listImages(wiring))
    assert.deepEqual(
      listed.map(({ names, layers, damage }) => ({ names, layers: layers.length, damage })),
      numbers.map((index) => ({ names: [nameOf(index)], layers: index % 3, damage: undefined })),
    )
    assert.ok(turns > 0, 'the thread was never free')
  })

  test('has no image that is removed meanwhile, and reports none as damaged', async () => {
    const listing = listImages(wiring)
    const removed = digests.filter((_, index) => index % 2 === 1)
    await wiring.metadata.images.removeAll(() => removed.map((digest) => ({ digest })))
    for (const digest of removed) wiring.blobs.remove(digest)
    const listed = await listing
    assert.deepEqual(
      listed.filter(({ damage }) => damage !== undefined),
      [],
    )
    assert.ok(!listed.some(({ digest }) => digest === removed.at(-1)))
    assert.equal((await listImages(wiring)).length, IMAGES - removed.length)
  })
})

async function putImage({ metadata, blobs, ingest }: Wiring, index: number): Promise<Digest> {
  const put = (text: string) => {
    const bytes = Buffer.from(text)
    const digest = digestOf(bytes, 'sha256')
    blobs.put(digest, bytes, ingest())
    return digest
  }
  const digest = put(`manifest ${index}`)
  const layers = numbers.slice(0, index % 3).map((position) => ({
    diffId: diffIdOf(`${index} ${position}`),
    blobDigest: digest,
    blobMediaType: 'm',
    blobBytes: 1,
  }))
  await metadata.images.put(
    {
      type: 'docker',
      digest,
      mediaType: 'm',
      configDigest: put(`config ${index}`),
      chainId: undefined,
      platform: 'linux/amd64',
      sizeBytes: 1,
      created: undefined,
      pulledAtMs: index,
      usedAtMs: index,
      isLocal: false,
      layers,
    },
    [
      {
        reference: storedReference(nameOf(index)),
        targetDigest: digest,
        givenBy: 'location',
        locations: [],
      },
    ],
  )
  return digest
}
