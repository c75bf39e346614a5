// Lazy indexes: made by `loam index`, `loam push --index` and pulls, published in real registries and in directories.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, test } from 'node:test'
import {
  type Digest,
  digestOf,
  lazyArtifactTag,
  parseLazyArtifact,
  parseLazyProfile,
} from '../../src/image/index.ts'
import { readLazyIndex } from '../../src/lazy-index/index.ts'
import { buildImage, buildTar, RegistryServer, writeOciLayout } from '../../src/testing/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../../src/tree/index.ts'
import { DebianRegistry, must, ok, World } from '../support/world.ts'

interface Indexed {
  readonly digest: Digest
  readonly artifact?: Digest
  readonly layers: readonly { diffId: Digest; blobDigest: Digest; indexDigest: Digest; indexBytes: number }[]
}

const image = buildImage({
  tars: [3_000_000, 100].map((bytes, index) =>
    buildTar([{ name: `file${index}`, data: randomBytes(bytes) }]),
  ),
})

describe('lazy indexes', () => {
  let world: World
  let registry: DebianRegistry
  let name: string

  beforeEach(async () => {
    world = new World()
    registry = await DebianRegistry.start()
    name = `${registry.host}/app:1`
    const layout = world.path('layout')
    writeOciLayout(layout, { app: image })
    must('skopeo', 'copy', '-q', '--dest-tls-verify=false', `oci:${layout}:app`, `docker://${name}`)
  })
  afterEach(() => {
    assert.deepEqual(world.leftovers(), [])
    registry[Symbol.dispose]()
    world[Symbol.dispose]()
  })

  const get = async (path: string) => {
    const response = await fetch(`http://${registry.host}/v2/app/${path}`, {
      headers: {
        accept: 'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json',
      },
    })
    return response.ok ? Buffer.from(await response.arrayBuffer()) : undefined
  }

  /** Reads the artifact at its tag, with all indexes in it. */
  const published = async (digest: Digest = image.manifest.digest) => {
    const bytes = await get(`manifests/${lazyArtifactTag(digest)}`)
    if (bytes === undefined) return undefined
    const artifact = parseLazyArtifact(bytes, 'artifact')
    const indexes = await Promise.all(
      artifact.layers.map(async ({ index }) =>
        readLazyIndex((await get(`blobs/${index.digest}`))!, DEFAULT_LAYER_LIMITS),
      ),
    )
    return { digest: digestOf(bytes), artifact, indexes }
  }

  const assertOf = async (digest: Digest | undefined) => {
    const found = await published()
    assert.equal(found?.digest, digest)
    assert.equal(found?.artifact.subject.digest, image.manifest.digest)
    assert.deepEqual(
      found?.indexes.map(({ blob, diffId }) => ({ digest: blob.digest, sizeBytes: blob.sizeBytes, diffId })),
      image.layers.map(({ digest: of, bytes }, index) => ({
        digest: of,
        sizeBytes: bytes.length,
        diffId: image.diffIds[index],
      })),
    )
  }

  test('the indexes of an image that is not in the store are made and pushed beside it, also as a referrer', async () => {
    const indexed = JSON.parse(ok(world.loam('--json', 'index', '--push', name)).stdout) as Indexed
    await assertOf(indexed.artifact)
    assert.equal(indexed.layers.length, 2)
    const referrers = JSON.parse(
      (await get(`manifests/${image.manifest.digest.replace(':', '-')}`))!.toString(),
    ) as {
      manifests: { digest: string; artifactType: string }[]
    }
    assert.deepEqual(
      referrers.manifests.map(({ digest, artifactType }) => [digest, artifactType]),
      [[indexed.artifact, 'application/vnd.loamfs.lazy.v1']],
    )
    assert.equal(ok(world.loam('index', '--push', name)).stdout.trim(), indexed.artifact, 'the same again')
    assert.equal(JSON.parse(ok(world.loam('--json', 'images')).stdout).length, 0)
  })

  test('the list of referrers that others keep in a registry is extended, and nothing of it is lost', async () => {
    const tag = image.manifest.digest.replace(':', '-')
    const other = {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: image.manifest.digest,
      size: image.manifest.bytes.length,
      artifactType: 'application/x-other',
      data: image.manifest.bytes.toString('base64'),
      platform: { os: 'linux', architecture: 'amd64', 'os.version': '1' },
      annotations: { 'org.example.note': 'kept' },
    }
    const mediaType = 'application/vnd.oci.image.index.v1+json'
    const index = { schemaVersion: 2, mediaType, manifests: [other], annotations: { of: 'others' } }
    const stored = await fetch(`http://${registry.host}/v2/app/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'content-type': mediaType },
      body: JSON.stringify(index),
    })
    assert.equal(stored.status, 201)
    ok(world.loam('index', '--push', name))
    const { manifests, ...rest } = JSON.parse((await get(`manifests/${tag}`))!.toString()) as typeof index
    assert.deepEqual({ ...rest, manifests: manifests.slice(0, 1) }, index)
    assert.deepEqual([manifests.length, manifests[1]?.artifactType], [2, 'application/vnd.loamfs.lazy.v1'])
  })

  test('indexes of layers in the store are kept there, and are pushed with the image', async () => {
    assert.match(world.failure('index', name).message, /would not keep indexes/)
    ok(world.loam('pull', name))
    const indexed = JSON.parse(ok(world.loam('--json', 'index', name)).stdout) as Indexed
    assert.equal(await published(), undefined)
    for (const { diffId, indexDigest } of indexed.layers)
      assert.equal(
        digestOf(readFileSync(world.path('store', 'layers', diffId, 'layer.lazy-index'))),
        indexDigest,
      )
    const copy = `${registry.host}/app:copy`
    const pushed = JSON.parse(ok(world.loam('--json', 'push', '--index', name, copy)).stdout) as {
      lazyIndexes: Indexed
    }
    assert.deepEqual(pushed.lazyIndexes.layers, indexed.layers)
    await assertOf(pushed.lazyIndexes.artifact)
  })

  test('indexes are written to a directory, by which layer blob they are of', () => {
    const directory = world.path('indexes')
    const { layers } = JSON.parse(
      ok(world.loam('--json', 'index', '--output', directory, name)).stdout,
    ) as Indexed
    assert.deepEqual(
      readdirSync(directory).toSorted(),
      image.layers.map(({ digest }) => `${digest}.lazy-index`).toSorted(),
    )
    for (const { blobDigest, indexDigest } of layers)
      assert.equal(digestOf(readFileSync(`${directory}/${blobDigest}.lazy-index`)), indexDigest)
  })

  test('what containers of this store read first is published with the indexes, and added to what was published', async () => {
    ok(world.loam('pull', name))
    const { layers } = JSON.parse(ok(world.loam('--json', 'index', name)).stdout) as Indexed
    const [first] = layers
    const profileOf = async () => {
      const profile = (await published())?.artifact.profile
      if (profile === undefined) return undefined
      return parseLazyProfile((await get(`blobs/${profile.digest}`))!, 'profile').get(first!.indexDigest)
    }
    for (const [spans, united] of [
      ['2 0', [2, 0]],
      ['1', [2, 0, 1]],
    ] as const) {
      {
        using database = new DatabaseSync(world.path('store', 'metadata.db'))
        database
          .prepare('INSERT OR REPLACE INTO profiles (diff_id, index_digest, spans) VALUES (?, ?, ?)')
          .run(first!.diffId, first!.indexDigest, spans)
      }
      ok(world.loam('index', '--push', name))
      assert.deepEqual(await profileOf(), united)
    }
  })

  test('a pull makes the indexes of an image, and publishes them unless there are some', async () => {
    const directory = world.path('indexes')
    ok(world.loam('pull', '--lazy_index=make', '--lazy_index_dir', directory, name))
    assert.equal(readdirSync(directory).length, 2)
    assert.equal(await published(), undefined)
    ok(world.loam('rmi', name))
    ok(world.loam('prune'))
    const { stderr } = ok(world.loam('pull', '--lazy_index=publish', name))
    assert.doesNotMatch(stderr, /no lazy index/)
    const first = await published()
    await assertOf(first?.digest)
    for (const diffId of image.diffIds)
      assert.ok(existsSync(world.path('store', 'layers', diffId, 'layer.lazy-index')))
  })

  test('a pull asks for no index if none is trusted, and one whose indexes cannot be published succeeds with a note', async () => {
    await using server = await RegistryServer.start()
    server.addImage('app', '1', image)
    ok(await world.loamAsync('pull', '--lazy', `${server.host}/app:1`))
    const isSearch = (request: string) => /\.loam$|\/referrers\//.test(request)
    assert.deepEqual(server.requests.filter(isSearch), [], 'nothing is trusted by default')
    const { status, stderr } = await world.loamAsync('pull', '--lazy_index=publish', `${server.host}/app:1`)
    assert.equal(status, 0, stderr)
    assert.match(stderr, /note: no lazy index was published: /)
  })
})
