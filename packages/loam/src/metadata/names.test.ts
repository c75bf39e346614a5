import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import { type Digest, pinOf, storedReference } from '../image/index.ts'
import { type ImageRecord, MetadataStore, type NameGiver, type NewName } from './index.ts'

const digest = (letter: string) => `sha256:${letter.repeat(64)}` as Digest
const NAME = storedReference('registry.test/app:1')

describe('names of images', () => {
  let folder: string
  let metadata: MetadataStore
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'loam-names-'))
    metadata = await MetadataStore.open(join(folder, 'metadata.db'), { lockFile: join(folder, 'lock') })
  })
  const removeAll = async () => metadata.images.removeAll(() => metadata.images.list())
  beforeEach(removeAll)
  after(() => {
    metadata[Symbol.dispose]()
    rmSync(folder, { recursive: true })
  })

  const record = (letter: string, platform = 'linux/amd64'): ImageRecord => ({
    type: 'docker',
    digest: digest(letter),
    mediaType: 'x',
    configDigest: digest(letter),
    chainId: undefined,
    platform,
    sizeBytes: 1,
    created: undefined,
    pulledAtMs: 1,
    usedAtMs: 1,
    isLocal: false,
    layers: [],
  })
  const named = (letter: string, givenBy: NameGiver, more: Partial<NewName> = {}): NewName => ({
    reference: NAME,
    targetDigest: digest(letter),
    givenBy,
    locations: [],
    ...more,
  })
  const owners = (reference = NAME) =>
    metadata.images
      .findNames(reference)
      .map(({ imageDigest, origin }) => `${imageDigest[7]} ${origin?.givenBy}`)

  test('a name that only the image claims replaces none of its registry or of a user, on any platform', async () => {
    for (const owner of ['location', 'user'] as const) {
      await metadata.images.put(record('a'), [named('a', owner)])
      for (const platform of ['linux/amd64', 'linux/arm64']) {
        const left = await metadata.images.put(record('b', platform), [named('b', 'image')])
        assert.deepEqual(left, [{ reference: NAME, why: 'taken' }])
        assert.deepEqual(owners(), [`a ${owner}`])
        await metadata.images.removeAll(() => [record('b')])
      }
      assert.deepEqual(await metadata.images.put(record('a'), [named('a', 'image')]), [], 'it has it already')
      assert.deepEqual(owners(), [`a ${owner}`])
      await metadata.images.removeAll(() => [record('a')])
    }
    await metadata.images.put(record('a'), [named('a', 'image')])
    assert.deepEqual(await metadata.images.put(record('b'), [named('b', 'image')]), [])
    assert.deepEqual(owners(), ['b image'], 'of two archives the later one has it')
  })

  test("a user takes the name of a registry's image only by force, and nothing else is recorded then", async () => {
    await metadata.images.put(record('a'), [named('a', 'location')])
    await assert.rejects(metadata.images.put(record('b'), [named('b', 'user')]), (error) =>
      isLoamError(error, 'NAME_TAKEN'),
    )
    assert.equal(metadata.images.find(digest('b')), undefined)
    assert.deepEqual(owners(), ['a location'])
    await metadata.images.put(record('b', 'linux/arm64'), [named('b', 'user', { mayReplace: true })])
    assert.deepEqual(owners(), ['b user'], 'no platform of the other one stays')
    await metadata.images.put(record('c'), [named('c', 'location')])
    assert.deepEqual(owners(), ['c location'], 'a request to the registry gets its answer')
  })

  test('a name with a digest is given only to the image with that digest', async () => {
    const pinned = storedReference(`registry.test/app@${digest('f')}`)
    assert.deepEqual(await metadata.images.put(record('a'), [named('a', 'image', { reference: pinned })]), [
      { reference: pinned, why: 'digest' },
    ])
    for (const givenBy of ['location', 'user'] as const)
      await assert.rejects(
        metadata.images.put(record('a'), [named('a', givenBy, { reference: pinned, mayReplace: true })]),
        (error) => isLoamError(error, 'DIGEST_MISMATCH'),
      )
    const id = storedReference(`appc://example.com/app,id=sha512-${'1'.repeat(128)}`)
    assert.deepEqual(await metadata.images.put(record('a'), [named('a', 'image', { reference: id })]), [
      { reference: id, why: 'digest' },
    ])
    await metadata.images.put(
      record('a'),
      [named('a', 'image', { reference: id })],
      [`sha512-${'1'.repeat(128)}`],
    )
    await metadata.images.put(record('f'), [named('f', 'image', { reference: pinned })])
    await metadata.images.put(record('e'), [
      named('e', 'location', {
        reference: storedReference(pinned.replace('app@', 'app:1@')),
        targetDigest: digest('f'),
      }),
    ])
    assert.equal(metadata.images.listNames().length, 3)
  })

  test('in any order of names, a pinned name refers to its digest, and no image takes a name of a higher rank', async () => {
    const step = fc.record({
      letter: fc.constantFrom('a', 'b', 'c'),
      platform: fc.constantFrom('linux/amd64', 'linux/arm64'),
      givenBy: fc.constantFrom<NameGiver>('location', 'user', 'image'),
      reference: fc.constantFrom(
        NAME,
        storedReference(`x.test/y@${digest('a')}`),
        storedReference(`x.test/y:1@${digest('b')}`),
        storedReference(`oci:/l@${digest('c')}`),
      ),
      mayReplace: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
        await removeAll()
        for (const { letter, platform, ...name } of steps) {
          const earlier = metadata.images.findNames(name.reference)
          try {
            await metadata.images.put(record(letter, platform), [named(letter, name.givenBy, name)])
          } catch (error) {
            assert.ok(
              isLoamError(error, 'NAME_TAKEN') || isLoamError(error, 'DIGEST_MISMATCH'),
              String(error),
            )
          }
          const now = metadata.images.findNames(name.reference)
          for (const { reference, targetDigest, imageDigest } of now) {
            const pin = pinOf(reference)
            assert.ok(pin === undefined || pin === targetDigest || pin === imageDigest, reference)
          }
          const strong = earlier.filter(({ origin }) => origin?.givenBy === 'location')
          if (name.givenBy === 'image' || (name.givenBy === 'user' && !name.mayReplace))
            for (const { imageDigest } of strong)
              assert.ok(
                now.some((row) => row.imageDigest === imageDigest && row.origin?.givenBy === 'location'),
              )
        }
      }),
      { numRuns: 60 },
    )
  })
})
