import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { LazyIndexDirectory } from '../content/index.ts'
import {
  describeBytes,
  type DiffId,
  type Digest,
  digestOf,
  EMPTY_CONFIG,
  formatIndex,
  formatLazyArtifact,
  formatLazyProfile,
  type LazyArtifact,
  lazyArtifactTag,
  MEDIA_TYPES,
  parseDiffId,
  parseReference,
} from '../image/index.ts'
import { type ImageLayerRecord, MetadataStore } from '../metadata/index.ts'
import { parsePolicy } from '../policy/index.ts'
import { RegistryClient } from '../registry/index.ts'
import { type ImageSource, registrySource } from '../sources/index.ts'
import {
  bundleReferrer,
  buildImage,
  type BuiltBlob,
  buildTar,
  createKeyPair,
  RegistryServer,
  signBundle,
  signSimple,
  simpleManifest,
} from '../testing/index.ts'
import { findLazyIndexes, type LazyIndexes, type LazyIndexRules } from './lazy-indexes.ts'
import { PolicyEnforcer } from './policy-enforcer.ts'

const image = buildImage({
  tars: [buildTar([{ name: 'a', data: 'a' }]), buildTar([{ name: 'b', data: 'b' }])],
})
const layers: ImageLayerRecord[] = image.layers.map(({ digest, bytes }, index) => ({
  diffId: image.diffIds[index] as DiffId,
  blobDigest: digest,
  blobBytes: bytes.length,
  blobMediaType: MEDIA_TYPES.ociLayerGzip,
}))
const subject = { digest: image.manifest.digest, layers }
const key = createKeyPair()

const blob = (bytes: Buffer): BuiltBlob => ({ digest: digestOf(bytes), bytes })

/** Stands for an index: the search reads no more of it than this. */
const indexOf = (layer: ImageLayerRecord, change: Partial<ImageLayerRecord> = {}): BuiltBlob => {
  const { blobDigest, blobBytes, diffId } = { ...layer, ...change }
  return blob(Buffer.from(JSON.stringify({ blob: { digest: blobDigest, sizeBytes: blobBytes }, diffId })))
}
const indexes = layers.map((layer) => indexOf(layer))

const artifactOf = (
  change: Partial<LazyArtifact> = {},
  changeLayer: (layer: LazyArtifact['layers'][number]) => LazyArtifact['layers'][number] = (layer) => layer,
): BuiltBlob => {
  const entries = layers.map(({ blobDigest, diffId }, index) => ({
    blob: blobDigest,
    diffId,
    index: describeBytes(MEDIA_TYPES.lazyLayer, indexes[index]!.bytes),
  }))
  const { bytes } = image.manifest
  return blob(
    formatLazyArtifact(
      {
        subject: describeBytes(image.mediaType, bytes),
        layers: entries.map(changeLayer),
        profile: undefined,
        ...change,
      },
      'test',
    ),
  )
}

describe('the search for lazy indexes', () => {
  let server: RegistryServer
  let client: RegistryClient
  let source: ImageSource
  let folder: string
  let metadata: MetadataStore
  const denied = new Map<Digest, string>()

  beforeEach(async () => {
    server = await RegistryServer.start()
    server.addImage('app', '1', image)
    for (const { digest, bytes } of [...indexes, blob(EMPTY_CONFIG)]) server.setBlob(digest, bytes)
    client = new RegistryClient({
      credentials: { find: async () => undefined },
      manifestBytes: 4 << 20,
      insecure: [],
      certsDirs: [],
      proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
      stallTimeoutMs: 5000,
      connectTimeoutMs: 5000,
      retry: { tries: 2, baseMs: 5, waitMs: 100 },
    })
    source = registrySource(parseReference(`${server.host}/app:1`), client, () => join(folder, 'x'))
    folder = mkdtempSync(join(tmpdir(), 'loam-lazy-'))
    metadata = await MetadataStore.open(join(folder, 'metadata.db'), { lockFile: join(folder, 'lock') })
    denied.clear()
  })
  afterEach(async () => {
    metadata[Symbol.dispose]()
    rmSync(folder, { recursive: true })
    await client[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  const enforcerOf = (policy: string, keys = { k: key.publicPem }) =>
    new PolicyEnforcer(
      parsePolicy(
        {
          default: 'reject',
          scope: {
            [server.host]: policy === 'cosign' ? { policy, keys: Object.keys(keys) } : { policy },
          },
        },
        {
          what: 'test',
          readNamed: (name) => Buffer.from(Object.entries(keys).find(([known]) => known === name)?.[1] ?? ''),
          defaultRegistry: 'docker.io',
        },
      ),
      metadata,
    )

  const rulesOf = (change: Partial<LazyIndexRules>): LazyIndexRules => ({
    trust: 'repository',
    directory: undefined,
    enforcer: undefined,
    denialOf: (index) => denied.get(index),
    readIndex: (bytes) => {
      const { blob: of, diffId } = JSON.parse(bytes.toString()) as ReturnType<LazyIndexRules['readIndex']>
      return { blob: of, diffId: parseDiffId(diffId) }
    },
    ...change,
  })

  const find = async (change: Partial<LazyIndexRules> = {}, pin?: Digest): Promise<LazyIndexes> =>
    findLazyIndexes(source, subject, rulesOf(change), { pin })

  const publish = (artifact: BuiltBlob, tag = lazyArtifactTag(image.manifest.digest)) => {
    server.addManifest('app', tag, artifact, MEDIA_TYPES.ociManifest)
  }

  const sign = (artifact: BuiltBlob, by = key) => {
    const { manifest, blobs } = simpleManifest([signSimple(`${server.host}/app`, artifact.digest, by)])
    for (const each of blobs) server.setBlob(each.digest, each.bytes)
    server.addManifest('app', `${artifact.digest.replace(':', '-')}.sig`, manifest, MEDIA_TYPES.ociManifest)
  }

  const assertFound = async (result: LazyIndexes, trustedBy: string) => {
    assert.ok(result.kind === 'found', result.kind === 'none' ? result.why : '')
    const got = layers.map(({ diffId }) => result.indexes.get(diffId))
    assert.deepEqual(
      got.map((index) => index?.trustedBy),
      layers.map(() => trustedBy),
    )
    for (const index of got) assert.equal(digestOf(await index!.bytes()), index!.indexDigest)
  }

  const assertNone = (result: LazyIndexes, why: RegExp) => {
    assert.equal(result.kind, 'none')
    assert.match(result.kind === 'none' ? result.why : '', why)
  }

  test('the artifact of a repository that is trusted is found with one request', async () => {
    publish(artifactOf())
    const result = await find()
    assert.deepEqual(server.requests, [`GET /v2/app/manifests/${lazyArtifactTag(image.manifest.digest)}`])
    await assertFound(result, 'repository')
  })

  test('no request is made if nothing could be trusted, and the reason names the setting', async () => {
    publish(artifactOf())
    assertNone(await find({ trust: 'signed' }), /^lazy_trust is signed, and no signature policy/)
    assertNone(await find({ trust: 'signed', enforcer: enforcerOf('accept') }), /no signature policy/)
    assertNone(await find({ trust: 'pinned' }), /^lazy_trust is pinned/)
    assertNone(await find({ trust: 'own' }), /^lazy_trust is own/)
    assertNone(
      await find({ trust: 'signed' }, artifactOf().digest),
      /the digest of the request did not count/,
    )
    assertNone(await find({ enforcer: enforcerOf('reject') }), /signature policy forbids it/)
    assertNone(await find({ enforcer: enforcerOf('digest-only') }), /signature policy forbids it/)
    assert.deepEqual(server.requests, [])
  })

  test('an index that its artifact names by a sha512 is not used, and the reason says so; the others are', async () => {
    const [first] = indexes
    assert.ok(first !== undefined)
    const digest = digestOf(first.bytes, 'sha512')
    server.setBlob(digest, first.bytes)
    const renamed = (isFirstOnly: boolean) =>
      artifactOf({}, (layer) =>
        layer.diffId === layers[0]?.diffId || !isFirstOnly
          ? { ...layer, index: { ...layer.index, digest } }
          : layer,
      )
    publish(renamed(true))
    const some = await find()
    assert.deepEqual(some.kind === 'found' ? [...some.indexes.keys()] : [], [layers[1]?.diffId])
    publish(renamed(false))
    assertNone(
      await find(),
      /the index sha512:[0-9a-f]{128} is named by its sha512, and only a sha256 is used/,
    )
  })

  test('a signed artifact is trusted by its signer, whose key the signature policy names', async () => {
    const artifact = artifactOf()
    publish(artifact)
    sign(artifact)
    await assertFound(await find({ trust: 'signed', enforcer: enforcerOf('cosign') }), 'signed: key k')
  })

  test('a request that names an artifact means no other one, also where signatures decide', async () => {
    const artifact = artifactOf()
    publish(artifact)
    sign(artifact)
    const rules = { trust: 'signed', enforcer: enforcerOf('cosign') } as const
    await assertFound(await find(rules, artifact.digest), 'signed: key k')
    assertNone(await find(rules, digestOf(Buffer.from('another'))), /its repository does not have/)
  })

  test('a bundle that refers to an artifact is a signature of it', async () => {
    const artifact = artifactOf()
    publish(artifact)
    const described = { ...artifact, mediaType: MEDIA_TYPES.ociManifest }
    const { manifest, blobs, index } = bundleReferrer(described, signBundle(artifact.digest, { key }))
    for (const each of blobs) server.setBlob(each.digest, each.bytes)
    publish(manifest, 'any')
    server.addManifest('app', artifact.digest.replace(':', '-'), index, MEDIA_TYPES.ociIndex)
    await assertFound(await find({ trust: 'signed', enforcer: enforcerOf('cosign') }), 'signed: key k')
  })

  test('an artifact without a signature, or by another key, is not used where signatures are required', async () => {
    const artifact = artifactOf()
    publish(artifact)
    for (const trust of ['signed', 'repository'] as const)
      assertNone(await find({ trust, enforcer: enforcerOf('cosign') }), /it is not signed/)
    sign(artifact, createKeyPair())
    assertNone(await find({ trust: 'signed', enforcer: enforcerOf('cosign') }), /made with a different key/)
    assertNone(
      await find({ trust: 'pinned', enforcer: enforcerOf('cosign') }, artifact.digest),
      /made with a different key/,
    )
  })

  test('a signed referrer is used if the artifact at the tag is not signed, with and without the referrers API', async () => {
    const signed = artifactOf()
    sign(signed)
    publish(artifactOf({ profile: { digest: subject.digest, sizeBytes: 1 } }))
    publish(signed, 'any')
    const entry = {
      ...describeBytes(MEDIA_TYPES.ociManifest, signed.bytes),
      artifactType: MEDIA_TYPES.lazyArtifact,
    }
    const list = blob(formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests: [entry] }))
    const rules = { trust: 'signed', enforcer: enforcerOf('cosign') } as const
    server.addManifest('app', image.manifest.digest.replace(':', '-'), list, MEDIA_TYPES.ociIndex)
    await assertFound(await find(rules), 'signed: key k')
    server.addManifest(
      'app',
      image.manifest.digest.replace(':', '-'),
      blob(Buffer.from('{}')),
      MEDIA_TYPES.ociIndex,
    )
    server.intercept = (request, response) => {
      if (request.url !== `/v2/app/referrers/${image.manifest.digest}`) return false
      response.writeHead(200, { 'content-type': MEDIA_TYPES.ociIndex })
      response.end(list.bytes)
      return true
    }
    await assertFound(await find(rules), 'signed: key k')
  })

  test('the artifact that a request names by its digest is trusted, and no other one is used', async () => {
    const artifact = artifactOf()
    publish(artifact)
    await assertFound(await find({ trust: 'pinned' }, artifact.digest), 'pinned')
    await assertFound(
      await find({ trust: 'pinned', enforcer: enforcerOf('digest-only') }, artifact.digest),
      'pinned',
    )
    assertNone(await find({ trust: 'repository' }, subject.digest), /subject|artifactType|config/)
    assertNone(await find({}, digestOf(Buffer.from('x'))), /does not have sha256:/)
  })

  test('an artifact of another image, or for another layer, is not used', async () => {
    const [layer] = layers
    const other = digestOf(Buffer.from('other'))
    const wrong: [BuiltBlob, RegExp][] = [
      [
        artifactOf({ subject: { mediaType: image.mediaType, digest: other, sizeBytes: 1 } }),
        /its subject is another image/,
      ],
      [artifactOf({}, (entry) => ({ ...entry, blob: other })), /has no usable index of its layers/],
      [
        artifactOf({}, (entry) => ({ ...entry, diffId: parseDiffId(other) })),
        /it is for sha256:.*, and the layer is/,
      ],
      [
        artifactOf({}, (entry) => ({
          ...entry,
          index: { ...entry.index, sizeBytes: (1 << 20) + layer!.blobBytes + 1 },
        })),
        /bytes, allowed for its layer are/,
      ],
      [blob(image.manifest.bytes), /artifactType|config/],
    ]
    for (const [artifact, why] of wrong) {
      publish(artifact)
      assertNone(await find(), why)
    }
  })

  test('an index that is not what its artifact says is refused when it is read', async () => {
    const [layer] = layers
    const other = digestOf(Buffer.from('other'))
    for (const [change, why] of [
      [{ blobDigest: other }, /it is for the blob/],
      [{ blobBytes: 1 }, /it is for the blob/],
      [{ diffId: parseDiffId(other) }, /it is for the layer/],
    ] as const) {
      const index = indexOf(layer!, change)
      server.setBlob(index.digest, index.bytes)
      publish(artifactOf({}, (entry) => ({ ...entry, index: describeBytes('', index.bytes) })))
      const result = await find()
      assert.ok(result.kind === 'found')
      await assert.rejects(result.indexes.get(layer!.diffId)!.bytes(), why)
    }
    const bytes = Buffer.from(indexes[0]!.bytes)
    bytes[0] = 0
    server.setBlob(indexes[0]!.digest, bytes)
    publish(artifactOf())
    const result = await find()
    assert.ok(result.kind === 'found')
    await assert.rejects(result.indexes.get(layer!.diffId)!.bytes(), /expected sha256:.* got sha256:/)
  })

  test('a lazy index that was denied is not used again', async () => {
    publish(artifactOf())
    denied.set(indexes[0]!.digest, 'its layer has another diffID')
    const one = await find()
    assert.ok(one.kind === 'found')
    assert.deepEqual([...one.indexes.keys()], [layers[1]!.diffId])
    denied.set(indexes[1]!.digest, 'its layer has another diffID')
    assertNone(await find(), /was denied: its layer has another diffID/)
    await new LazyIndexDirectory(join(folder, 'd')).write(layers[0]!.blobDigest, indexes[0]!.bytes)
    assertNone(await find({ directory: new LazyIndexDirectory(join(folder, 'd')) }), /was denied/)
  })

  test('a registry that does not answer the request for an artifact is a reason to pull eagerly, not an error', async () => {
    for (const [status, why] of [
      [401, /401|unauthorized|credentials/i],
      [403, /403|denied|forbidden/i],
      [404, /its repository has no lazy index of it/],
      [500, /500/],
    ] as const) {
      server.intercept = (request, response) => {
        if (!/\/(?:manifests|referrers)\//.test(request.url ?? '')) return false
        response.writeHead(status, { 'content-type': 'application/json' })
        response.end('{}')
        return true
      }
      assertNone(await find(), why)
    }
  })

  test('indexes of a directory that only its owner can change are trusted before any request is made', async () => {
    const shared = join(folder, 'shared')
    const directory = new LazyIndexDirectory(shared)
    publish(artifactOf())
    await assertFound(await find({ directory }), 'repository')
    assert.deepEqual(readdirSync(folder).includes('shared'), false, 'reading creates nothing')
    for (const [index, layer] of layers.entries())
      await directory.write(layer.blobDigest, indexes[index]!.bytes)
    assert.deepEqual(
      readdirSync(shared).toSorted(),
      layers.map(({ blobDigest }) => `${blobDigest}.lazy-index`).toSorted(),
    )
    server.requests.length = 0
    await assertFound(await find({ trust: 'own', directory }), 'own')
    assert.deepEqual(server.requests, [])
    assertNone(await find({ trust: 'pinned', directory }), /so that .*shared did not count/)
    assertNone(await find({ trust: 'own', directory }, subject.digest), /artifactType|config|subject/)
  })

  test('a directory of indexes, or a file in it, that others may write to is refused', async () => {
    const shared = join(folder, 'shared')
    const directory = new LazyIndexDirectory(shared)
    for (const [index, layer] of layers.entries())
      await directory.write(layer.blobDigest, indexes[index]!.bytes)
    const rules = { trust: 'own', directory } as const
    const path = join(shared, `${layers[0]!.blobDigest}.lazy-index`)
    chmodSync(shared, 0o777)
    assertNone(await find(rules), /others may write to it/)
    await assert.rejects(directory.write(layers[0]!.blobDigest, indexes[0]!.bytes), /others may write to it/)
    chmodSync(shared, 0o700)
    chmodSync(path, 0o622)
    assertNone(await find(rules), /others may write to it/)
    chmodSync(path, 0o600)
    renameSync(path, join(shared, 'elsewhere'))
    symlinkSync('elsewhere', path)
    assertNone(await find(rules), /it is a symlink/)
  })

  test('a file of the directory that is not the index of its layer is not used', async () => {
    const shared = join(folder, 'shared')
    const directory = new LazyIndexDirectory(shared)
    await directory.write(layers[0]!.blobDigest, indexes[1]!.bytes)
    assertNone(await find({ trust: 'own', directory }), /it is for the blob/)
    await directory.write(layers[0]!.blobDigest, indexes[0]!.bytes)
    const result = await find({ trust: 'own', directory })
    assert.ok(result.kind === 'found')
    writeFileSync(join(shared, `${layers[0]!.blobDigest}.lazy-index`), indexes[1]!.bytes)
    await assert.rejects(result.indexes.get(layers[0]!.diffId)!.bytes(), /was changed or removed/)
  })

  test('the profile of an artifact comes with its indexes, and one that cannot be read is none', async () => {
    const profile = blob(formatLazyProfile(new Map([[indexes[0]!.digest, [3, 1]]])))
    const spansOf = async () => {
      const result = await find()
      assert.ok(result.kind === 'found')
      return Promise.all(layers.map(async ({ diffId }) => result.indexes.get(diffId)?.profile?.()))
    }
    publish(artifactOf({ profile: describeBytes('', profile.bytes) }))
    assert.deepEqual(await spansOf(), [[], []])
    server.setBlob(profile.digest, profile.bytes)
    assert.deepEqual(await spansOf(), [[3, 1], []])
    server.setBlob(profile.digest, Buffer.alloc(profile.bytes.length))
    assert.deepEqual(await spansOf(), [[], []])
    publish(artifactOf())
    assert.deepEqual(await spansOf(), [undefined, undefined])
  })

  test('the search begins before the layers are known', async () => {
    publish(artifactOf())
    const known = Promise.withResolvers<readonly ImageLayerRecord[]>()
    server.intercept = () => {
      known.resolve(layers)
      return false
    }
    const late = { digest: subject.digest, layers: known.promise }
    await assertFound(await findLazyIndexes(source, late, rulesOf({})), 'repository')
  })

  test('a search that is canceled fails as canceled', async () => {
    publish(artifactOf())
    const signal = AbortSignal.abort()
    await assert.rejects(findLazyIndexes(source, subject, rulesOf({}), { signal }), /cancel/i)
  })
})
