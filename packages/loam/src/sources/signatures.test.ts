// What lies beside the signatures of an image in its repository: anybody who may push can add to it.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { digestOf, MEDIA_TYPES, parseReference } from '../image/index.ts'
import { evaluate, findRule, parsePolicy, registryLocation } from '../policy/index.ts'
import { RegistryClient } from '../registry/index.ts'
import {
  buildImage,
  type BuiltBlob,
  bundleReferrer,
  createKeyPair,
  type Interceptor,
  RegistryServer,
  signBundle,
  signSimple,
  simpleManifest,
} from '../testing/index.ts'
import { registryLazyArtifacts } from './lazy-artifacts.ts'
import { findReferrers } from './referrers.ts'
import { findSignatures } from './signatures.ts'

const artifactType = MEDIA_TYPES.sigstoreBundle
const mediaType = MEDIA_TYPES.ociManifest
const SBOM = 'https://spdx.dev/Document'
const PREDICATE = 'dev.sigstore.bundle.predicateType'

const image = buildImage({ tars: [] })
const { digest } = image.manifest
const [key, foreign] = [createKeyPair(), createKeyPair()]

/** An entry of the list of referrers, and what it leads to. */
interface Beside {
  readonly entry: object
  readonly manifest?: BuiltBlob
  readonly blobs?: readonly BuiltBlob[]
}

const blob = (bytes: Buffer): BuiltBlob => ({ digest: digestOf(bytes), bytes })

function besideOf(manifest: BuiltBlob, blobs: readonly BuiltBlob[]): Required<Beside> {
  const size = manifest.bytes.length
  return { entry: { mediaType, digest: manifest.digest, size, artifactType }, manifest, blobs }
}

function bundleBeside(bytes: Buffer): Required<Beside> {
  const { manifest, blobs } = bundleReferrer({ ...image.manifest, mediaType: image.mediaType }, bytes)
  return besideOf(manifest, blobs)
}

/** A manifest in the place of one with a bundle. */
const manifestBeside = (json: unknown) => besideOf(blob(Buffer.from(JSON.stringify(json))), [])

function layerBeside(content: string, size: number, isThere: boolean): Beside {
  const bundle = blob(Buffer.from(content))
  const { manifest, entry } = manifestBeside({
    layers: [{ mediaType: artifactType, digest: bundle.digest, size }],
  })
  return { entry, manifest, blobs: isThere ? [bundle] : [] }
}

const good = bundleBeside(signBundle(digest, { key }))
const sbom = signBundle(digest, { key: foreign }, SBOM).toString()
const sbomBeside = (index: number) => bundleBeside(Buffer.from(sbom + ' '.repeat(index)))

const others: Readonly<Record<string, readonly Beside[]>> = {
  'a bill of materials of 1.6 MB': [bundleBeside(Buffer.from(sbom + ' '.repeat(1_600_000)))],
  '70 bills of materials': Array.from({ length: 70 }, (_, index) => sbomBeside(index)),
  'a thousand bills of materials whose entries say so': Array.from({ length: 1000 }, () => ({
    entry: { ...sbomBeside(0).entry, annotations: { [PREDICATE]: SBOM } },
  })),
  'a manifest with a layer that is none': [manifestBeside({ layers: [{ mediaType: 5 }] })],
  'manifests without a list of layers': [5, { layers: 5 }, [], {}].map(manifestBeside),
  'a manifest that is no JSON': [besideOf(blob(Buffer.from('{')), [])],
  'a manifest that was removed': [{ entry: manifestBeside('removed').entry }],
  'a bundle that is no JSON': [bundleBeside(Buffer.from('{'))],
  'a bundle that does not exist': [layerBeside('a', 1, false)],
  'a bundle of another size': [layerBeside('bb', 3, true), layerBeside('ccc', 2, true)],
  'entries that are none': [
    { artifactType },
    { ...good.entry, annotations: { a: 5 } },
    { ...good.entry, digest: 'sha256:x' },
    [],
  ].map((entry) => ({ entry })),
}

/** A registry with an image and its referrers. */
async function serve(referrers: readonly Beside[]): Promise<RegistryServer> {
  const server = await RegistryServer.start()
  server.addImage('app', '1', image)
  for (const { manifest, blobs = [] } of referrers) {
    if (manifest !== undefined) server.addManifest('app', manifest.digest, manifest, mediaType)
    for (const { digest: named, bytes } of blobs) server.setBlob(named, bytes)
  }
  const index = JSON.stringify({ schemaVersion: 2, manifests: referrers.map(({ entry }) => entry) })
  server.intercept = (request, response) => {
    if (request.url !== `/v2/app/referrers/${digest}`) return false
    response.writeHead(200, { 'content-type': MEDIA_TYPES.ociIndex }).end(index)
    return true
  }
  return server
}

/** Serves signatures under their tag, the entries changed. */
function serveTagged(
  server: RegistryServer,
  signatures: readonly ReturnType<typeof signSimple>[],
  change: (layers: readonly object[]) => readonly unknown[] = (layers) => layers,
): void {
  const { manifest, blobs } = simpleManifest(signatures)
  for (const { digest: named, bytes } of blobs) server.setBlob(named, bytes)
  const { layers, ...rest } = JSON.parse(manifest.bytes.toString()) as { layers: object[] }
  const changed = blob(Buffer.from(JSON.stringify({ ...rest, layers: change(layers) })))
  server.addManifest('app', `${digest.replace(':', '-')}.sig`, changed, mediaType)
}

function createClient(): RegistryClient {
  return new RegistryClient({
    credentials: { find: async () => undefined },
    manifestBytes: 4 << 20,
    insecure: [],
    certsDirs: [],
    proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
    stallTimeoutMs: 5000,
    connectTimeoutMs: 5000,
    retry: { tries: 2, baseMs: 1, waitMs: 10 },
  })
}

/** Returns the signer that the policy `cosign` accepts, or the message of the refusal. */
async function signerOf({ host }: RegistryServer): Promise<string | undefined> {
  await using client = createClient()
  const reference = parseReference(`${host}/app:1`)
  const location = registryLocation(reference)
  const policy = parsePolicy(
    { default: 'reject', scope: { [host]: { policy: 'cosign', keys: ['k'] } } },
    { what: 'test', readNamed: () => Buffer.from(key.publicPem), defaultRegistry: 'docker.io' },
  )
  const { signer } = await evaluate(findRule(policy, location), {
    name: 'app',
    location,
    pin: undefined,
    digests: [digest],
    findSignatures: () => findSignatures(client, reference, [digest]),
  })
  return signer
}

const isRefused = (why: RegExp) => (error: unknown) => {
  assert.ok(isLoamError(error, 'POLICY_REFUSED'), String(error))
  assert.match(error.message, why)
  return true
}

/** Answers requests of a path in place of the registry, as often as they come. */
function answering(server: RegistryServer, path: RegExp, status: number): Interceptor {
  const { intercept } = server
  return (request, response) => {
    if (!path.test(request.url ?? '')) return intercept(request, response)
    response.writeHead(status).end()
    return true
  }
}

describe('signatures in a registry', () => {
  test('a signed image is accepted whatever else lies beside it', async () => {
    for (const [what, beside] of Object.entries(others)) {
      await using alone = await serve(beside)
      await assert.rejects(signerOf(alone), isRefused(/a signature is required/), what)
      await using bundled = await serve([...beside, good])
      assert.equal(await signerOf(bundled), 'key k', what)
      await using tagged = await serve(beside)
      serveTagged(tagged, [signSimple(`${tagged.host}/app`, digest, key)])
      assert.equal(await signerOf(tagged), 'key k', what)
    }
  })

  test('a signature under a tag is accepted beside entries that cannot be read, and referrers are not asked for then', async () => {
    await using server = await serve([])
    const name = `${server.host}/app`
    const wrong = Array.from({ length: 70 }, (_, index) => signSimple(`${name}/${index}`, digest, key))
    serveTagged(server, [...wrong, signSimple(name, digest, key)], ([first, ...layers]) => [
      ...[{ mediaType: 5 }, { ...first, size: -1 }, { ...first, size: 1 << 21 }, 5],
      ...layers,
    ])
    assert.equal(await signerOf(server), 'key k')
    assert.ok(!server.requests.some((path) => path.includes('/referrers/')))
    // What is no list of signatures leaves those of the other form.
    await using other = await serve([good])
    other.addManifest('app', `${digest.replace(':', '-')}.sig`, blob(Buffer.from('[')), mediaType)
    assert.equal(await signerOf(other), 'key k')
  })

  test('candidates are read in order and within limits, and the refusal names what was wrong with them', async () => {
    const second = bundleBeside(Buffer.from(sbom))
    await using server = await serve([good, second])
    assert.equal(await signerOf(server), 'key k')
    assert.equal(server.countBlob(second.blobs[0]?.digest ?? ''), 0)
    const many = Array.from({ length: 260 }, (_, index) => sbomBeside(index))
    await using full = await serve([...many, good])
    await assert.rejects(signerOf(full), isRefused(/another statement, of predicateType .*only 256 of 261/))
    const large = Array.from({ length: 65 }, (_, index) =>
      bundleBeside(Buffer.from(sbom + ' '.repeat((1 << 20) - sbom.length - index))),
    )
    await using heavy = await serve(large)
    await assert.rejects(signerOf(heavy), isRefused(/only 64 of 65/))
  })

  test('referrers and lazy indexes are found beside entries that are none', async () => {
    const lazy = manifestBeside({ lazy: true })
    const entry = { ...lazy.entry, artifactType: MEDIA_TYPES.lazyArtifact }
    await using server = await serve([
      ...(others['entries that are none'] ?? []).slice(2),
      { entry: { ...entry, digest: 5 } },
      { ...lazy, entry },
      { ...lazy, entry: { ...good.entry, artifactType: 'text/x' } },
    ])
    serveTagged(server, [], () => [{ mediaType: 5 }, 5])
    await using client = createClient()
    const reference = parseReference(`${server.host}/app:1`)
    const found = await findReferrers(client, reference, [digest])
    assert.deepEqual(
      found.map(({ kind }) => kind),
      ['lazy-index', 'other', 'signature'],
    )
    const { find } = registryLazyArtifacts(client, reference)
    const artifacts = await Array.fromAsync(find(digest, { pin: undefined, signal: undefined }))
    assert.deepEqual(
      artifacts.map((each) => each.digest),
      [lazy.manifest.digest],
    )
  })

  test('a failure of the registry itself is not a refusal', async () => {
    await using server = await serve([good])
    const { intercept } = server
    for (const [path, status, code] of [
      [/\/referrers\//, 500, 'REGISTRY_RESPONSE'],
      [/\/blobs\//, 503, 'REGISTRY_RESPONSE'],
      [/\.sig$/, 403, 'REGISTRY_DENIED'],
      [/\/blobs\//, 429, 'REGISTRY_RATE_LIMITED'],
    ] as const) {
      server.intercept = answering(server, path, status)
      await assert.rejects(signerOf(server), (error) => isLoamError(error, code), `${status}`)
      server.intercept = intercept
    }
    server.intercept = answering(server, /\/blobs\//, 412)
    await assert.rejects(signerOf(server), isRefused(/412/))
  })
})
