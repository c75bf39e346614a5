// Documents as programs in Go write them. The fields are those of structs of image-spec (specs-go/v1) and moby (image/spec);
// an unset field without `omitempty` is written as null or empty.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import {
  describeEntries,
  type Descriptor,
  type Digest,
  isFor,
  parseImageConfig,
  parseManifestDocument,
  rankEntries,
} from './index.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const OTHER = `sha256:${'b'.repeat(64)}`
const OCI = 'application/vnd.oci.image.'
const layer = { mediaType: `${OCI}layer.v1.tar+gzip`, digest: DIGEST, size: 3 }
const config = { ...layer, mediaType: `${OCI}config.v1+json` }
const entry = { mediaType: `${OCI}manifest.v1+json`, digest: DIGEST, size: 3 }
const parse = (value: unknown, type?: string) =>
  parseManifestDocument(Buffer.from(JSON.stringify(value)), type, 'm')
const manifestOf = (value: unknown) => {
  const parsed = parse(value)
  assert.ok(parsed.kind === 'manifest')
  return parsed
}
const indexOf = (value: unknown, type?: string) => {
  const parsed = parse(value, type)
  assert.ok(parsed.kind === 'index')
  return parsed
}
const isInvalid = (error: unknown) => isLoamError(error, 'DOCUMENT_INVALID')

describe('documents of programs in Go', () => {
  test('a manifest whose lists, maps and texts are null has empty ones', () => {
    const parsed = manifestOf({
      schemaVersion: 2,
      mediaType: null,
      artifactType: null,
      config: { ...config, annotations: null, urls: null, platform: null, data: null },
      layers: null,
      subject: null,
      annotations: null,
      manifests: null,
    })
    assert.deepEqual(
      [parsed.layers, parsed.annotations, parsed.mediaType],
      [[], {}, `${OCI}manifest.v1+json`],
    )
    assert.equal(parsed.config.platform, undefined)
  })

  test('a manifest without schemaVersion, mediaType and layers is recognised by its config', () => {
    assert.deepEqual(manifestOf({ config }).layers, [])
    assert.throws(() => parse({ schemaVersion: 3, config, layers: [] }), isInvalid)
  })

  test('a manifest with a missing or null config is refused, and so is a descriptor without digest or size', () => {
    for (const wrong of [
      { layers: [layer] },
      { config: null, layers: [layer] },
      { config: { ...config, digest: '' }, layers: [layer] },
      { config: { ...config, digest: null }, layers: [layer] },
      { config, layers: [null] },
      { config, layers: [{ ...layer, size: undefined }] },
      { config, layers: [{ ...layer, size: null }] },
    ])
      assert.throws(() => parse(wrong), isInvalid)
  })

  test('an index whose list is null or missing is empty', () => {
    assert.deepEqual(indexOf({ schemaVersion: 2, manifests: null }).manifests, [])
    assert.deepEqual(indexOf({ schemaVersion: 2, mediaType: `${OCI}index.v1+json` }).manifests, [])
    assert.deepEqual(indexOf({ schemaVersion: 2 }, `${OCI}index.v1+json`).manifests, [])
    assert.deepEqual(indexOf({ manifests: [], layers: null, config: null }).manifests, [])
  })

  test('a document that has the fields of a manifest and of an index, in whatever case, is refused', () => {
    assert.throws(() => parse({ manifests: [], Layers: [] }), isInvalid)
    assert.throws(() => parse({ config, layers: [], MANIFESTS: [entry] }), isInvalid)
  })

  test('a field is found whatever the case of its key, and one that is there in two cases is refused', () => {
    assert.equal(
      manifestOf({ Config: config, LAYERS: [{ ...layer, Size: 3, size: undefined }] }).layers.length,
      1,
    )
    assert.throws(() => parse({ config, layers: [{ ...layer, Digest: OTHER }] }), isInvalid)
    // Go folds two characters beyond ASCII.
    assert.throws(() => parse({ config, layers: [{ ...layer, ſize: 4 }] }), isInvalid)
  })

  test('labels and annotations keep their case, and a null value is an empty text', () => {
    const parsed = manifestOf({ config, layers: [], annotations: { a: '1', A: '2', n: null } })
    assert.deepEqual(parsed.annotations, { a: '1', A: '2', n: '' })
  })

  test('a platform that is null or empty, or has empty fields, counts as missing', () => {
    for (const platform of [
      null,
      {},
      { os: '', architecture: '' },
      { os: null, architecture: null, variant: null },
    ])
      assert.equal(indexOf({ manifests: [{ ...entry, platform }] }).manifests[0]?.platform, undefined)
    assert.deepEqual(
      indexOf({
        manifests: [
          { ...entry, platform: { os: 'linux', architecture: 'arm', variant: '', 'os.features': null } },
        ],
      }).manifests[0]?.platform,
      { os: 'linux', architecture: 'arm', variant: undefined },
    )
  })

  test('a config with only null or missing fields is that of an image without layers, for every platform', () => {
    const empty = [
      {},
      {
        rootfs: null,
        config: null,
        history: null,
        created: null,
        os: null,
        architecture: null,
        variant: null,
      },
      {
        rootfs: { type: '', diff_ids: null },
        config: { Env: null, Cmd: null, User: null, Labels: null, Volumes: null },
      },
      { RootFS: { Type: 'layers', Diff_IDs: [] } },
    ]
    for (const value of empty) {
      const parsed = parseImageConfig(Buffer.from(JSON.stringify(value)), 'c')
      assert.deepEqual(
        [parsed.diffIds, parsed.run.env, parsed.run.labels, parsed.created],
        [[], [], {}, undefined],
      )
      assert.ok(isFor(parsed, { os: 'linux', architecture: 'riscv64' }))
    }
    for (const wrong of [
      'null',
      '[]',
      '""',
      '{"rootfs":{"type":"other"}}',
      '{"rootfs":[]}',
      '{"config":"x"}',
    ])
      assert.throws(() => parseImageConfig(Buffer.from(wrong), 'c'), isInvalid)
  })

  test('a command of one word that is not in a list is that word, as Docker reads it', () => {
    const bytes = Buffer.from(JSON.stringify({ config: { Cmd: 'sh', Entrypoint: 'init', env: ['A=1'] } }))
    const { run } = parseImageConfig(bytes, 'c')
    assert.deepEqual([run.cmd, run.entrypoint, run.env], [['sh'], ['init'], ['A=1']])
  })

  test('a config of the type of early pushes to Docker Hub, or without a type, is an image', () => {
    for (const mediaType of ['application/octet-stream', '', null])
      assert.equal(manifestOf({ config: { ...config, mediaType }, layers: [layer] }).layers.length, 1)
  })
})

describe('entries of an index', () => {
  const amd64 = { os: 'linux', architecture: 'amd64' }
  const make = (name: string, rest: Partial<Descriptor> = {}): Descriptor => ({
    mediaType: `${OCI}manifest.v1+json`,
    digest: `sha256:${name.padEnd(64, '0')}` as Digest,
    sizeBytes: 3,
    ...rest,
  })
  const attestation = make('a', {
    platform: { os: 'unknown', architecture: 'unknown' },
    annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
  })
  const ranked = (...entries: Descriptor[]) =>
    rankEntries(entries, amd64).map(
      ({ entry: { digest }, isSure }) => `${digest.slice(7, 8)}${isSure ? '' : '?'}`,
    )

  test('the only image of an index is found without a platform, beside its attestation and artifacts', () => {
    const artifact = make('f', { artifactType: 'application/x-sbom' })
    assert.deepEqual(ranked(attestation, make('1'), artifact), ['1'])
    assert.deepEqual(ranked(make('1', { platform: { os: 'unknown', architecture: 'unknown' } })), ['1'])
  })

  test('entries of an index for the platform come first, then those without a platform', () => {
    const [a, b, c] = [
      make('1'),
      make('2', { platform: { ...amd64, variant: 'v2' } }),
      make('3', { platform: amd64 }),
    ]
    assert.deepEqual(ranked(a, b, c, attestation), ['3', '1?'])
    assert.deepEqual(ranked(a, make('4')), ['1?', '4?'])
    assert.deepEqual(ranked(make('5', { platform: { os: 'linux', architecture: 'arm64' } })), [])
  })

  test('an error about an index names its platforms and its other kinds of entries', () => {
    const manifests = [make('1', { platform: amd64 }), make('2'), attestation, { ...attestation }]
    const others = [make('9', { mediaType: 'application/x-chart' })]
    assert.equal(
      describeEntries({ manifests, others }),
      'linux/amd64, an image without a platform, 2 × attestation-manifest, artifact application/x-chart',
    )
    assert.equal(describeEntries({ manifests: [], others: [] }), 'nothing')
  })
})
