// Every source streams each blob of an image, from any offset. Copies, resumed fetches and partial reads rely on it.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import {
  type Descriptor,
  digestOf,
  listReferences,
  MEDIA_TYPES,
  parseReference,
  storedReference,
} from '../image/index.ts'
import { RegistryClient } from '../registry/index.ts'
import { buildDockerArchive, buildImage, buildTar, RegistryServer, writeOciLayout } from '../testing/index.ts'
import { blob } from '../testing/image-builder.ts'
import { buildAci } from '../testing/aci-builder.ts'
import { DEFAULT_IMAGE_LIMITS, DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import { readAci } from './appc/aci-file.ts'
import { aciSource } from './appc/appc-source.ts'
import { archiveFiles, folderFiles } from './archive-files.ts'
import { convertedSource } from './converted.ts'
import { dockerArchiveSource } from './docker-archive.ts'
import { dockerV1Source } from './docker-v1.ts'
import type { ImageSource } from './image-source.ts'
import { ociLayoutSource } from './oci-layout.ts'
import { registrySource } from './registry-source.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-blobs-'))
const path = (name: string) => join(folder, name)
const tar = buildTar([
  { name: 'file', data: Buffer.from(Array.from({ length: 300_000 }, (_value, i) => i % 251)) },
])
const image = buildImage({ tars: [tar], compression: 'none' })
const platform = { os: 'linux', architecture: 'amd64' }
let paths = 0
const newPath = () => path(`new-${(paths += 1)}`)

let server: RegistryServer
let client: RegistryClient

before(async () => {
  writeOciLayout(path('layout'), { one: image })
  writeFileSync(path('docker.tar'), buildDockerArchive(image, [tar], ['app:1']))
  server = await RegistryServer.start()
  server.addImage('app', '1', image)
  client = new RegistryClient({
    credentials: { find: async () => undefined },
    manifestBytes: 4 << 20,
    insecure: [],
    certsDirs: [],
    proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
    stallTimeoutMs: 5000,
    connectTimeoutMs: 5000,
    retry: { tries: 1, baseMs: 5, waitMs: 2500 },
  })
})
after(async () => {
  await client[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

async function readBlob(source: ImageSource, descriptor: Descriptor, offset?: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of source.openBlob(descriptor, { offset })) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Reads the whole of a layer, and then from each offset on. */
async function assertOffsets(source: ImageSource, descriptor: Descriptor): Promise<void> {
  const whole = await readBlob(source, descriptor)
  assert.equal(whole.length, descriptor.sizeBytes)
  for (const offset of [0, 1, 511, 70_000, whole.length - 1, whole.length, whole.length + 1])
    assert.ok(
      (await readBlob(source, descriptor, offset)).equals(whole.subarray(offset)),
      `from byte ${offset}`,
    )
}

const layer: Descriptor = {
  mediaType: 'application/vnd.oci.image.layer.v1.tar',
  digest: image.layers[0]?.digest ?? image.config.digest,
  sizeBytes: tar.length,
}

test('a layout gives a blob from any byte on, as a folder and as an archive', async () => {
  const files = buildTar([{ name: `blobs/${layer.digest.replace(':', '/')}`, data: tar }])
  writeFileSync(path('layout.tar'), files)
  for (const members of [
    folderFiles(path('layout'), DEFAULT_IMAGE_LIMITS),
    await archiveFiles(path('layout.tar'), DEFAULT_IMAGE_LIMITS),
  ])
    await assertOffsets(ociLayoutSource({ path: '/l', selector: undefined, members, platform }), layer)
})

test('an archive of docker save gives a layer from any byte on', async () => {
  const members = await archiveFiles(path('docker.tar'), DEFAULT_IMAGE_LIMITS)
  await assertOffsets(dockerArchiveSource('/a', {}, members), layer)
})

test('an ACI has a layer, which is created while it is read, from any byte on', async () => {
  const aci = buildAci({ manifest: { name: 'example.com/app' }, entries: [{ name: 'file', data: tar }] })
  writeFileSync(path('app.aci'), aci.bytes)
  const limits = { ...DEFAULT_IMAGE_LIMITS, ...DEFAULT_LAYER_LIMITS }
  const { layer: made } = await readAci(path('app.aci'), { what: 'app', newPath, limits, signal: undefined })
  const source = convertedSource({
    name: storedReference('app'),
    asked: { locations: [], pin: undefined },
    isRemote: false,
    convert: async () => ({ config: Buffer.from('{}'), layers: [made] }),
  })
  await assertOffsets(source, made.descriptor)
})

test('a registry gives a blob from any byte on, by a range and where it knows none', async () => {
  const source = registrySource(parseReference(`${server.host}/app:1`), client, newPath)
  await source.resolve()
  await assertOffsets(source, layer)
  const ranges = () => server.headers.flatMap(({ headers }) => headers.range ?? [])
  assert.ok(ranges().includes('bytes=70000-'))
  server.intercept = (request) => {
    delete request.headers.range
    return false
  }
  await assertOffsets(source, layer)
})

test('every source opens each blob that its manifest refers to, the config, too', async () => {
  const v1 = [
    { name: 'repositories', data: JSON.stringify({ app: { 1: 'one' } }) },
    { name: 'one/json', data: JSON.stringify({ id: 'one', os: 'linux', architecture: 'amd64' }) },
    { name: 'one/layer.tar', data: tar },
  ]
  writeFileSync(path('v1.tar'), buildTar(v1))
  const aci = buildAci({ manifest: { name: 'example.com/app' }, entries: [{ name: 'file', data: tar }] })
  writeFileSync(path('whole.aci'), aci.bytes)
  const schema1 = {
    schemaVersion: 1,
    name: 'app',
    tag: 'old',
    architecture: 'amd64',
    fsLayers: [{ blobSum: layer.digest }],
    history: [{ v1Compatibility: JSON.stringify({ id: 'one', os: 'linux', architecture: 'amd64' }) }],
  }
  server.addManifest('app', 'old', blob(Buffer.from(JSON.stringify(schema1))), 'application/json')
  const artifact = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    artifactType: 'text/plain',
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: layer.digest, size: tar.length },
    layers: [
      {
        mediaType: 'text/plain',
        digest: layer.digest,
        size: tar.length,
        annotations: { 'org.opencontainers.image.title': 'file' },
      },
    ],
  }
  server.addManifest('app', 'files', blob(Buffer.from(JSON.stringify(artifact))), MEDIA_TYPES.ociManifest)
  const inFiles = async (name: string) => archiveFiles(path(name), DEFAULT_IMAGE_LIMITS)
  const limits = { ...DEFAULT_IMAGE_LIMITS, ...DEFAULT_LAYER_LIMITS }
  const inRegistry = (tag: string) =>
    registrySource(parseReference(`${server.host}/app:${tag}`), client, newPath, {
      mayBeArtifact: true,
      limits,
    })
  const members = folderFiles(path('layout'), DEFAULT_IMAGE_LIMITS)
  const sources: Readonly<Record<string, ImageSource>> = {
    layout: ociLayoutSource({ path: '/l', selector: undefined, members, platform }),
    archive: dockerArchiveSource('/a', {}, await inFiles('docker.tar')),
    'old archive': dockerV1Source('/v', {}, await inFiles('v1.tar'), {} as never),
    ACI: aciSource(path('whole.aci'), { newPath, limits } as never),
    registry: inRegistry('1'),
    'schema 1': inRegistry('old'),
    artifact: inRegistry('files'),
  }
  for (const [what, source] of Object.entries(sources)) {
    const { bytes } = await source.resolve()
    const { blobs } = listReferences(bytes, what)
    assert.equal(blobs.length, 2, what)
    for (const wanted of blobs) {
      const whole = await readBlob(source, wanted)
      assert.equal(digestOf(whole), wanted.digest, what)
      assert.equal(whole.length, wanted.sizeBytes, what)
      assert.ok((await readBlob(source, wanted, 3)).equals(whole.subarray(3)), what)
    }
  }
})
