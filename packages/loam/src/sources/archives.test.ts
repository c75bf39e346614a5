// Choosing an image of a layout or an archive, where several images have one name, or one has several.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { digestOf, parseReference } from '../image/index.ts'
import { dockerArchiveSource } from './docker-archive.ts'
import { dockerV1Source } from './docker-v1.ts'
import type { ArchiveFiles } from './archive-files.ts'
import { layoutParts } from './archive-parts.ts'
import { ociLayoutSource, selectInLayout } from './oci-layout.ts'

const TAG = 'org.opencontainers.image.ref.name'
const NAME = 'io.containerd.image.name'
const platform = { os: 'linux', architecture: 'amd64' }

function membersOf(files: Readonly<Record<string, string>>): ArchiveFiles {
  const read = (name: string) => (files[name] === undefined ? undefined : Buffer.from(files[name]))
  return {
    sizeOf: (name) => read(name)?.length,
    read,
    findFolder: () => undefined,
    stream: async function* stream(name) {
      yield read(name) ?? Buffer.alloc(0)
    },
  }
}

/** A layout with entries by the text of their image, and their annotations. */
function layoutOf(
  ...entries: readonly (readonly [image: string, annotations: Readonly<Record<string, string>>])[]
): ArchiveFiles {
  const files: Record<string, string> = { 'oci-layout': '{"imageLayoutVersion":"1.0.0"}' }
  const manifests = entries.map(([image, annotations]) => {
    const bytes = JSON.stringify({ schemaVersion: 2, annotations: { image } })
    const digest = digestOf(Buffer.from(bytes))
    files[`blobs/sha256/${digest.slice('sha256:'.length)}`] = bytes
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    return { mediaType, digest, size: bytes.length, annotations, platform }
  })
  return membersOf({ ...files, 'index.json': JSON.stringify({ schemaVersion: 2, manifests }) })
}

async function imageOf(members: ArchiveFiles, { selector, put }: { selector?: string; put?: string }) {
  const chosen =
    put === undefined
      ? selector
      : await selectInLayout(parseReference(put, 'docker.io'), { path: '/l', members, signal: undefined })
  const { bytes } = await ociLayoutSource({ path: '/l', selector: chosen, members, platform }).resolve()
  return (JSON.parse(Buffer.from(bytes).toString()) as { annotations: { image: string } }).annotations.image
}

const isNotFound = (error: unknown) => isLoamError(error, 'IMAGE_NOT_FOUND')

describe('an OCI layout', () => {
  const two = layoutOf(
    ['a', { [NAME]: 'docker.io/library/a:1', [TAG]: '1' }],
    ['b', { [NAME]: 'docker.io/library/b:1', [TAG]: '1' }],
  )

  test('an OCI layout never confuses two images with the same tag', async () => {
    for (const wanted of [{ put: 'c:1' }, { put: 'registry.test/b:1' }, { selector: '1' }, {}])
      await assert.rejects(async () => imageOf(two, wanted), isNotFound, JSON.stringify(wanted))
    assert.equal(await imageOf(two, { put: 'b:1' }), 'b')
    assert.equal(await imageOf(two, { put: 'docker.io/a:1' }), 'a')
    assert.equal(await imageOf(two, { selector: 'docker.io/library/b:1' }), 'b')
  })

  test('an OCI layout compares names however they are written', async () => {
    const short = layoutOf(['a', { [TAG]: 'a:1' }], ['b', { [TAG]: 'b' }])
    assert.equal(await imageOf(short, { put: 'docker.io/library/a:1' }), 'a')
    assert.equal(await imageOf(short, { put: 'b:latest' }), 'b')
    await assert.rejects(async () => imageOf(short, { put: 'registry.test/c:1' }), isNotFound)
  })

  test('an OCI layout of one image under several names needs no name', async () => {
    const one = layoutOf(['a', { [TAG]: '1' }], ['a', { [TAG]: '2' }], ['a', { [NAME]: 'registry.test/a:3' }])
    for (const wanted of [{ put: 'other' }, {}, { selector: '2' }])
      assert.equal(await imageOf(one, wanted), 'a')
  })
})

describe('an archive of docker save with one image under several names', () => {
  const entry = (tag: string) => ({ Config: 'c.json', RepoTags: [tag], Layers: ['l.tar'] })
  const archive = membersOf({ 'manifest.json': JSON.stringify([entry('app:1'), entry('app:2')]) })
  const v1 = membersOf({ repositories: JSON.stringify({ app: { 1: 'x', 2: 'x' }, other: { latest: 'x' } }) })
  const folders = { pack: () => assert.fail(), hash: () => assert.fail(), newPath: () => assert.fail() }

  test('an archive of docker save with one image under several names has one image', () => {
    for (const choice of [{}, { name: parseReference('mine') }, { selector: 'app:2' }]) {
      dockerArchiveSource('/a', choice, archive)
      dockerV1Source('/a', choice, v1, folders)
    }
    assert.throws(() => dockerArchiveSource('/a', { selector: 'app:3' }, archive), isNotFound)
    assert.throws(() => dockerV1Source('/a', { selector: 'app:3' }, v1, folders), isNotFound)
  })
})

describe('what is read of a layout to find its images', () => {
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const artifact = (padding: number) =>
    JSON.stringify({
      schemaVersion: 2,
      config: { mediaType: 'x/y', digest: digestOf(Buffer.alloc(0)), size: 0 },
    }) + ' '.repeat(padding)

  /** Returns a layout with entries for some manifests, and counts what is read of it. */
  function counted(manifests: readonly string[]) {
    const files: Record<string, string> = { 'oci-layout': '{"imageLayoutVersion":"1.0.0"}' }
    const entries = manifests.map((bytes, at) => {
      const digest = digestOf(Buffer.from(bytes))
      files[`blobs/sha256/${digest.slice('sha256:'.length)}`] = bytes
      return { mediaType, digest, size: bytes.length, annotations: { [TAG]: `t${at}` } }
    })
    const members = membersOf({
      ...files,
      'index.json': JSON.stringify({ schemaVersion: 2, manifests: entries }),
    })
    let reads = 0
    const read: ArchiveFiles['read'] = (name, kind) => {
      if (name.startsWith('blobs/')) reads += 1
      return members.read(name, kind)
    }
    return { members: { ...members, read }, reads: () => reads }
  }

  test('a manifest is read once, however many entries name it, and noted once', async () => {
    const { members, reads } = counted(Array.from({ length: 500 }, () => artifact(0)))
    const notes: string[] = []
    const parts = await layoutParts({ path: '/l', members, signal: undefined }, (note) => notes.push(note))
    assert.deepEqual([parts, reads(), notes.length], [[], 1, 1])
    assert.equal(
      await selectInLayout(parseReference('a:1', 'docker.io'), { path: '/l', members, signal: undefined }),
      undefined,
    )
    assert.equal(reads(), 2)
  })

  test('the bytes that are read have a limit, and the signal ends it before', async () => {
    const { members, reads } = counted(Array.from({ length: 40 }, (_, at) => artifact((2 << 20) + at)))
    const find = async (signal?: AbortSignal) => layoutParts({ path: '/l', members, signal }, () => {})
    await assert.rejects(async () => find(AbortSignal.abort()), { code: 'CANCELED' })
    assert.equal(reads(), 0)
    await assert.rejects(async () => find(), { code: 'SOURCE_INVALID' })
    assert.equal(reads(), 32)
  })

  test('an index of nothing but artifacts is no image', async () => {
    const indexType = 'application/vnd.oci.image.index.v1+json'
    const image = JSON.stringify({ schemaVersion: 2, annotations: { image: 'a' } })
    const files: Record<string, string> = { 'oci-layout': '{"imageLayoutVersion":"1.0.0"}' }
    const put = (bytes: string, type: string, fields: object = {}) => {
      const digest = digestOf(Buffer.from(bytes))
      files[`blobs/sha256/${digest.slice('sha256:'.length)}`] = bytes
      return { mediaType: type, digest, size: bytes.length, ...fields }
    }
    const indexOf = (...manifests: readonly object[]) => JSON.stringify({ schemaVersion: 2, manifests })
    const missing = { mediaType, digest: digestOf(Buffer.from('missing')), size: 7 }
    const bundle = put(artifact(0), mediaType)
    const said = put(image, mediaType, { artifactType: 'x/y' })
    const attestation = put(image, mediaType, {
      annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
    })
    const other = put('text', 'text/plain')
    const none = indexOf(bundle, said, attestation, other)
    const artifacts = [none, indexOf(said), indexOf(put(none, indexType), bundle)]
    const images = [
      indexOf(),
      indexOf(bundle, missing),
      indexOf(put(image, mediaType)),
      indexOf(bundle, put(indexOf(missing), indexType)),
    ]
    const kindsOf = async (...indexes: readonly string[]) => {
      const named = indexes.map((bytes, at) => put(bytes, indexType, { annotations: { [TAG]: `t${at}` } }))
      const members = membersOf({ ...files, 'index.json': indexOf(...named) })
      const parts = await layoutParts({ path: '/l', members, signal: undefined }, () => {})
      return parts.map(({ selector }) => named.findIndex(({ digest }) => digest === selector))
    }
    assert.deepEqual(await kindsOf(...artifacts), [])
    assert.deepEqual(await kindsOf(...images), [...images.keys()])
    const tagged = [put(image, mediaType), put(none, indexType, { annotations: { [TAG]: 'sha256-ab' } })]
    assert.equal(await imageOf(membersOf({ ...files, 'index.json': indexOf(...tagged) }), {}), 'a')
  })
})
