import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { type Digest, parseDigest, storedReference } from '../image/index.ts'
import { hostPlatform } from '../linux/index.ts'
import { type ImageRecord, MetadataStore, type NameGiver } from '../metadata/index.ts'
import { findById, findByKnownName, nameForOthers } from './stored-name.ts'

const digest = (start: string): Digest => parseDigest(`sha256:${start.padEnd(64, '0')}`)
const OWN = `linux/${hostPlatform().architecture}`

const ASKED = { locations: [], pin: undefined }

describe('an id of an image', () => {
  let folder: string
  let metadata: MetadataStore
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'loam-ids-'))
    metadata = await MetadataStore.open(join(folder, 'metadata.db'), { lockFile: join(folder, 'lock') })
    const put = async (
      start: string,
      {
        config = `c${start}`,
        platform = OWN,
        pulledAtMs = 1,
        names = [] as [string, string, NameGiver?][],
      } = {},
    ) => {
      const record: ImageRecord = {
        type: 'docker',
        digest: digest(start),
        mediaType: 'x',
        configDigest: digest(config),
        chainId: undefined,
        platform,
        sizeBytes: 1,
        created: undefined,
        pulledAtMs,
        usedAtMs: 1,
        isLocal: false,
        layers: [],
      }
      await metadata.images.put(
        record,
        names.map(([reference, target, givenBy = 'location']) => ({
          reference: storedReference(reference),
          targetDigest: digest(target),
          givenBy,
          locations: [],
        })),
      )
    }
    await put('a1b2c3d4e5', { names: [['docker.io/library/app:1', 'a1b2c3d4e5']] })
    await put('a1b2c3ffff', { names: [['docker.io/library/app:2', 'a1b2c3ffff']] })
    await put('0101010101', { platform: 'linux/never', names: [['docker.io/library/multi:1', '1d1d1d1d1d']] })
    await put('0202020202', { names: [['docker.io/library/multi:1', '1d1d1d1d1d']] })
    await put('0303030303', { config: 'cf00000001', pulledAtMs: 1 })
    await put('0404040404', { config: 'cf00000001', pulledAtMs: 2 })
    await put('facade0000', { names: [['docker.io/library/beefed:latest', 'facade0000']] })
    await put('beefed1234')
    await put('0606060606', {
      names: [
        ['any.test/app:1', '0606060606', 'image'],
        ['docker-archive:/a.tar', '0606060606'],
      ],
    })
    await put('0505050505', { names: [['oci:/gone:app', '0505050505']] })
  })
  after(() => {
    metadata[Symbol.dispose]()
    rmSync(folder, { recursive: true })
  })

  const find = (text: string) => findById(text, { metadata, defaultRegistry: 'docker.io' })
  const found = (text: string) => find(text)?.digest.slice(7, 17)
  const hintOf = (text: string): string => {
    try {
      find(text)
    } catch (error) {
      if (isLoamError(error, 'IMAGE_NOT_FOUND')) return error.hint ?? ''
    }
    throw new Error(`${text} was found`)
  }

  test('an image id is the first six digits or more of the digest of its manifest, config or index', () => {
    for (const text of [
      'a1b2c3d',
      'a1b2c3d4e5',
      'sha256:a1b2c3d',
      digest('a1b2c3d4e5'),
      digest('a1b2c3d4e5').slice(7),
      'ca1b2c3d',
    ])
      assert.equal(found(text), 'a1b2c3d4e5', text)
    assert.equal(find('a1b2c3d')?.reference, 'docker.io/library/app:1')
    assert.equal(find('0303030')?.reference, digest('0303030303'))
    assert.equal(found('facade'), 'facade0000')
  })

  test('an id of an index means the image for the platform, and an id of a config the latest of its images', () => {
    assert.equal(found('1d1d1d1d1d'), '0202020202')
    assert.equal(find('1d1d1d')?.targetDigest, digest('1d1d1d1d1d'))
    assert.equal(found('cf00000001'), '0404040404')
    assert.equal(found('0101010101'), '0101010101')
  })

  test('an id that fits several images, or is a name, too, is refused with all candidates', () => {
    assert.match(hintOf('a1b2c3'), /sha256:a1b2c3d4e5.*sha256:a1b2c3ffff/)
    assert.match(hintOf('beefed'), /docker\.io\/library\/beefed:latest.*sha256:beefed1234/)
  })

  test('an id that is not found is an error, and a text that can only be a name is not looked up as an id', () => {
    for (const text of [
      '0123456789ab',
      'abc123',
      'sha256:abcdef',
      'f'.repeat(64),
      'abcdefabcdef',
      `sha512:${'0'.repeat(128)}`,
    ])
      assert.match(hintOf(text), /loam images/, text)
    for (const text of [
      'decade',
      'abc12',
      'debian',
      'debian:12',
      'ABCDEF12',
      'x/abcdef12',
      `app@${digest('a1')}`,
      'sha256:xyz',
      '',
    ])
      assert.equal(find(text), undefined, text)
  })

  test('an image found by its id is fetched from the location that it came from, and not from the one that it claims', () => {
    assert.equal(find('0606060606')?.reference, 'docker-archive:/a.tar')
  })

  test("an image of a file that is gone needs no id, and the file's name is not a name for others", () => {
    const known = findByKnownName('oci:/gone:app', ASKED, { metadata, defaultRegistry: 'docker.io' })
    assert.deepEqual([known?.digest, known?.reference], [digest('0505050505'), 'oci:/gone:app'])
    assert.equal(
      findByKnownName('oci:/never:app', ASKED, { metadata, defaultRegistry: 'docker.io' }),
      undefined,
    )
    const source = { isRemote: true } as Parameters<typeof nameForOthers>[0]
    for (const name of ['oci:/x:y', 'docker-archive:/x', 'aci:/x', digest('a1')])
      assert.equal(nameForOthers({ ...source, name: storedReference(name) }), undefined)
    const name = storedReference('docker.io/library/app:1')
    assert.equal(nameForOthers({ ...source, name }), name)
  })
})
