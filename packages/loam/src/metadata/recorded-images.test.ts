import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { DiffId, Digest } from '../image/index.ts'
import { storedReference } from '../image/index.ts'
import { type ImageRecord, MetadataStore, type NameGiver, type NewName } from './index.ts'

const STEP_MS = 60_000
const digest = (letter: string) => `sha256:${letter.repeat(64)}` as Digest

describe('an image that is recorded already', () => {
  let folder: string
  let metadata: MetadataStore
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'loam-recorded-'))
    metadata = await MetadataStore.open(join(folder, 'metadata.db'), { lockFile: join(folder, 'lock') })
  })
  after(() => {
    metadata[Symbol.dispose]()
    rmSync(folder, { recursive: true })
  })

  const record = (letter: string, more: Partial<ImageRecord> = {}): ImageRecord => ({
    type: 'docker',
    digest: digest(letter),
    mediaType: 'x',
    configDigest: digest(letter),
    chainId: undefined,
    platform: 'linux/amd64',
    sizeBytes: 1,
    created: undefined,
    pulledAtMs: 1_000_000,
    usedAtMs: 1_000_000,
    isLocal: true,
    layers: [
      {
        diffId: digest('d') as string as DiffId,
        blobDigest: digest('e'),
        blobMediaType: 'y',
        blobBytes: 1,
      },
    ],
    ...more,
  })
  const name = (letter: string, more: Partial<NewName> = {}): NewName => ({
    reference: storedReference('oci:/images:one'),
    targetDigest: digest(letter),
    givenBy: 'location',
    locations: ['oci:/images'],
    ...more,
  })
  const isRecorded = (image: ImageRecord, names: readonly NewName[]) =>
    metadata.images.isRecorded(image, names, { ids: [], stepMs: STEP_MS })

  test('is recorded again when it has another name, layer or location, or after a minute', async () => {
    assert.equal(isRecorded(record('a'), [name('a')]), false)
    await metadata.images.put(record('a'), [name('a')])
    assert.equal(isRecorded(record('a', { pulledAtMs: 1_000_000 + STEP_MS }), [name('a')]), true)
    assert.equal(isRecorded(record('a', { pulledAtMs: 1_000_001 + STEP_MS }), [name('a')]), false)
    assert.equal(isRecorded(record('a', { layers: [] }), [name('a')]), false)
    assert.equal(isRecorded(record('a', { isLocal: false }), [name('a')]), false)
    assert.equal(isRecorded(record('a'), [name('a', { locations: ['oci:/other'] })]), false)
    assert.equal(isRecorded(record('a'), [name('a', { targetDigest: digest('b') })]), false)
    const other = storedReference('oci:/images:two')
    assert.equal(isRecorded(record('a'), [name('a'), name('a', { reference: other })]), false)
    await metadata.images.put(record('b'), [name('b')])
    assert.equal(isRecorded(record('a'), [name('a')]), false, 'its name is that of another image')
    await metadata.images.removeAll(() => metadata.images.list())
  })

  test('would not be changed by being recorded again, whatever was recorded before', async () => {
    const images = fc.record({
      letter: fc.constantFrom('a', 'b'),
      platform: fc.constantFrom('linux/amd64', 'linux/arm64'),
      isLocal: fc.boolean(),
      givenBy: fc.constantFrom<NameGiver>('location', 'user', 'image'),
      reference: fc.constantFrom('oci:/images:one', `registry.test/app@${digest('a')}`),
      locations: fc.constantFrom([], ['x'], ['x', 'y']),
    })
    const tables = () =>
      JSON.stringify([
        metadata.images.list().map(({ pulledAtMs: _pulled, usedAtMs: _used, ...image }) => image),
        metadata.images.listNames().map(({ updatedAtMs: _updated, ...each }) => each),
      ])
    await fc.assert(
      fc.asyncProperty(fc.array(images, { maxLength: 5 }), images, async (earlier, { letter, ...last }) => {
        await metadata.images.removeAll(() => metadata.images.list())
        const asked = ({ reference, givenBy, locations }: Omit<typeof last, 'letter'>, own: string) => [
          name(own, { reference: storedReference(reference), givenBy, locations, mayReplace: true }),
        ]
        for (const { letter: own, ...each } of earlier)
          await metadata.images.put(record(own, each), asked(each, own)).catch(() => undefined)
        const image = record(letter, last)
        if (!isRecorded(image, asked(last, letter))) return
        const recorded = tables()
        assert.deepEqual(await metadata.images.put(image, asked(last, letter)), [])
        assert.equal(tables(), recorded)
      }),
      { numRuns: 200 },
    )
  })
})
