import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, mock, test } from 'node:test'
import * as fc from 'fast-check'
import { type DiffId, type Digest, storedReference } from '../image/index.ts'
import { type ImageRecord, MetadataStore, parseContainerId, type RootfsRecord } from './index.ts'

const digest = (number: number) => `sha256:${number.toString(16).padStart(64, '0')}` as Digest
const diffId = (number: number) => digest(number) as string as DiffId

const rootfsOf = (image: ImageRecord): RootfsRecord => ({
  uuid: 'u',
  containerId: parseContainerId('c'),
  state: 'ready',
  backend: 'copy',
  reference: 'r:1',
  imageDigest: image.digest,
  chainId: undefined,
  layers: image.layers.map((layer) => layer.diffId),
  rootfsPath: '/r',
  scratchPath: '/s',
  isReadOnly: false,
  sizeBytes: undefined,
  idMapping: undefined,
  volumeTarget: undefined,
  volumeRoot: undefined,
  volumeSubPath: undefined,
  volumeMount: undefined,
  bootId: 'b',
  createdAtMs: 1,
})

describe('what is listed', () => {
  let folder: string
  let metadata: MetadataStore
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'loam-images-'))
    metadata = await MetadataStore.open(join(folder, 'metadata.db'), { lockFile: join(folder, 'lock') })
  })
  after(() => {
    metadata[Symbol.dispose]()
    rmSync(folder, { recursive: true })
  })

  const put = async (number: number, layers: readonly number[], names: readonly string[]) => {
    const image: ImageRecord = {
      type: 'docker',
      digest: digest(number),
      mediaType: 'x',
      configDigest: digest(number),
      chainId: undefined,
      platform: 'linux/amd64',
      sizeBytes: 1,
      created: undefined,
      pulledAtMs: number,
      usedAtMs: number,
      isLocal: false,
      layers: layers.map((layer, position) => ({
        diffId: diffId(layer),
        blobDigest: digest(position),
        blobMediaType: `m"${position}`,
        blobBytes: position,
      })),
    }
    const given = names.map((name) => ({
      reference: storedReference(name),
      targetDigest: image.digest,
      givenBy: 'location' as const,
      locations: [],
    }))
    await metadata.images.put(image, given)
    return image
  }
  const clear = async () => metadata.images.removeAll(() => metadata.images.list())

  test('has every image with its layers in their order, however many', async () => {
    const layersOfImages = fc.array(fc.array(fc.nat(12), { maxLength: 25 }), { maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(layersOfImages, async (some) => {
        await clear()
        const images = await Promise.all(
          some.map(async (layers, number) => put(number, layers, [`r:${number}`, `s:${number}`])),
        )
        assert.deepEqual(metadata.images.list(), images)
        assert.deepEqual(
          metadata.images.digests(),
          images.map((image) => image.digest),
        )
        for (const image of images) {
          assert.deepEqual(metadata.images.find(image.digest), image)
          assert.deepEqual(
            metadata.images.namesOf(image.digest),
            metadata.images.listNames().filter(({ imageDigest }) => imageDigest === image.digest),
          )
        }
        for (const layer of Array.from({ length: 13 }, (_, number) => diffId(number)))
          assert.deepEqual(
            metadata.images.usersOfLayer(layer),
            images
              .filter(({ layers }) => layers.some((each) => each.diffId === layer))
              .map((each) => each.digest),
          )
      }),
      { numRuns: 20 },
    )
  })

  test('has no image and no root filesystem without its layers when another process removes it meanwhile', async () => {
    await clear()
    const image = await put(1, [1, 2], ['r:1'])
    const rootfs = rootfsOf(image)
    await metadata.containers.putRootfs(rootfs, false)
    using other = new DatabaseSync(join(folder, 'metadata.db'))
    const whileRemoved = <T>(list: () => T, table: string): T => {
      const all = mock.method(StatementSync.prototype, 'all', function (this: StatementSync) {
        all.mock.restore()
        const rows = this.all()
        other.exec(`DELETE FROM ${table}`)
        return rows
      })
      return list()
    }
    assert.deepEqual(
      whileRemoved(() => metadata.images.list(), 'images'),
      [image],
    )
    assert.deepEqual(
      whileRemoved(() => metadata.containers.rootfses(), 'rootfses'),
      [rootfs],
    )
    assert.deepEqual([metadata.images.list(), metadata.containers.rootfses()], [[], []])
  })

  test('has no image that was removed with others, and all others; those in use are not unused', async () => {
    await clear()
    await metadata.containers.remove(parseContainerId('c'))
    const images = await Promise.all(
      Array.from({ length: 60 }, async (_, number) => put(number, [number], [`r:${number}`])),
    )
    const [used, damaged, exported, ...others] = images
    assert.ok(used !== undefined && damaged !== undefined && exported !== undefined)
    await metadata.containers.putRootfs(rootfsOf(used), false)
    await metadata.containers.putRootfs({ ...rootfsOf(damaged), uuid: 'v' }, false)
    using other = new DatabaseSync(join(folder, 'metadata.db'))
    other.exec("UPDATE rootfses SET chain_id = 'x' WHERE uuid = 'v'")
    await metadata.additionalImages.put({ directory: '/d', name: 'n', imageDigest: exported.digest }, [])
    assert.deepEqual(
      metadata.images.unused('docker'),
      others.map((image) => ({ digest: image.digest, isLocal: false })),
    )
    assert.deepEqual(metadata.images.unused('appc'), [])
    const removed = await metadata.images.removeAll(() => others.slice(0, 40))
    assert.equal(removed.length, 40)
    const left = [used, damaged, exported, ...others.slice(40)]
    assert.deepEqual(metadata.images.list(), left)
    assert.deepEqual(
      metadata.images
        .listNames()
        .map(({ imageDigest }) => imageDigest)
        .toSorted(),
      left.map((image) => image.digest).toSorted(),
    )
    assert.deepEqual(
      metadata.images.layerBlobs(),
      new Set(left.flatMap(({ layers }) => layers.map(({ blobDigest }) => blobDigest))),
    )
  })
})
