import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openWiring } from '../../test/support/open-wiring.ts'
import { countTurns } from '../../test/support/turns.ts'
import type { Wiring } from '../app/wiring.ts'
import { blobPath } from '../content/index.ts'
import { digestOf, type DiffId, type Digest, storedReference } from '../image/index.ts'
import { listImages } from './image-list.ts'

interface Document {
  readonly digest: Digest
  readonly path: string
}

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

  test('says what happens to documents that were sound before', async () => {
    // Their files are old enough to be remembered.
    await sleep(1_100)
    const [changed, replaced, removed, damaged] = digests.slice(0, 4).map((digest) => ({
      digest,
      path: blobPath(wiring.paths, digest),
    })) as [Document, Document, Document, Document]
    writeFileSync(damaged.path, 'damaged then')
    const listed = async () => {
      const all = await listImages(wiring)
      return new Map(all.flatMap(({ digest, damage }) => (damage === undefined ? [] : [[digest, damage]])))
    }
    assert.deepEqual([...(await listed()).keys()], [damaged.digest])
    const sound = readFileSync(changed.path)
    writeFileSync(changed.path, Buffer.alloc(sound.length))
    writeFileSync(`${replaced.path}-new`, Buffer.alloc(sound.length))
    renameSync(`${replaced.path}-new`, replaced.path)
    rmSync(removed.path)
    writeFileSync(damaged.path, 'manifest 3')
    const problems = await listed()
    assert.deepEqual(
      [...problems].map(([digest, damage]) => [digest, /missing|damaged/.exec(damage)?.[0]]),
      [
        [changed.digest, 'damaged'],
        [replaced.digest, 'damaged'],
        [removed.digest, 'missing'],
      ],
    )
    for (const [index, { path }] of [changed, replaced, removed].entries())
      writeFileSync(path, `manifest ${index}`)
    assert.deepEqual([...(await listed()).keys()], [])
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
