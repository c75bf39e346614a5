import assert from 'node:assert/strict'
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { writeOciLayout } from '../exports/oci-layout.ts'
import { convertedSource, type ConvertedImage } from '../sources/converted.ts'
import * as builder from '../testing/image-builder.ts'
import {
  configOfV1,
  type Descriptor,
  digestOf,
  parseDiffId,
  parseV1Json,
  replaceLayers,
  storedReference,
} from './index.ts'

const TARS = [Buffer.from('one'), Buffer.from('two')]
const CONFIG = Buffer.from('{"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"architecture":"arm64"}')

const layers = TARS.map((tar) => ({
  descriptor: {
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
    digest: digestOf(tar),
    sizeBytes: tar.length,
  } satisfies Descriptor,
  open: async function* open() {
    yield tar
  },
}))

async function digestOfConverted(image: ConvertedImage): Promise<string> {
  const source = convertedSource({
    name: storedReference('x'),
    isRemote: false,
    asked: { locations: [], pin: undefined },
    convert: async () => image,
  })
  return short((await source.resolve(undefined)).bytes)
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted()
    .map((path) => `${path.slice(folder.length + 1)} ${short(readFileSync(path))}`)
}

function short(bytes: Buffer): string {
  return digestOf(bytes).slice(7, 19)
}

async function inFolder<T>(act: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-canonical-'))
  try {
    return await act(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('a converted image has the manifest that it had in earlier versions, to the byte, so that its digest stays', async () => {
  assert.equal(await digestOfConverted({ config: CONFIG, layers }), '36e5bc4af6a9')
  assert.equal(await digestOfConverted({ config: CONFIG, layers, annotations: { a: 'b' } }), '521f8e9c3f9f')
})

test('an exported layout has the files that it had in earlier versions, to the byte', async () => {
  const written = await inFolder(async (folder) => {
    const exported = TARS.map((tar, index) => {
      const tarPath = join(folder, `${index}.tar`)
      writeFileSync(tarPath, tar)
      return { diffId: parseDiffId(digestOf(tar)), tarPath }
    })
    const image = { readConfig: () => CONFIG, name: 'x:1' }
    await writeOciLayout(join(folder, 'layout'), image, exported, {
      copy: async (from, to) => copyFileSync(from, to),
    })
    return filesBelow(join(folder, 'layout'))
  })
  assert.equal(short(Buffer.from(written.join('\n'))), '776dea7ccffa')
})

test('a config of the v1 format becomes the same config as in earlier versions, to the byte', () => {
  const top = parseV1Json(
    Buffer.from('{"id":"a","created":"2020","config":{"Cmd":["x"]},"rootfs":1,"os":"linux"}'),
    'json',
  )
  assert.equal(
    configOfV1(top, [parseDiffId(digestOf(Buffer.alloc(0)))]).toString(),
    '{"created":"2020","config":{"Cmd":["x"]},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"os":"linux"}',
  )
})

test('the image builder creates the same images as in earlier versions, to the byte', async () => {
  const oci = builder.buildImage({ tars: TARS, compression: 'none', withHistory: true })
  const docker = builder.buildImage({ tars: TARS, compression: 'none', isDocker: true })
  const platform = { os: 'linux', architecture: 'amd64' }
  const index = builder.buildMetaImage([{ image: oci, platform }])
  const written = await inFolder((folder) => {
    builder.writeOciLayout(folder, { x: oci })
    return filesBelow(folder)
  })
  assert.deepEqual(
    [oci.manifest, docker.manifest, index.blob].map(({ bytes }) => short(bytes)),
    ['881aa213c339', 'd1e033e0b692', '54644a01a0ef'],
  )
  assert.equal(short(Buffer.from(written.join('\n'))), '5ee8232410f6')
})

test('a manifest whose layers are compressed again keeps everything else, including annotations of its layers', () => {
  const [first, second] = TARS.map((tar) => digestOf(tar))
  assert.ok(first !== undefined && second !== undefined)
  const layer = (digest: string) => ({
    size: 3,
    mediaType: 'm',
    digest,
    urls: ['u'],
    annotations: { a: 'b' },
  })
  const manifest = Buffer.from(
    JSON.stringify({ x: 1, layers: [layer(first), layer(second)], schemaVersion: 2 }),
  )
  const kept = { mediaType: 'n', digest: first, sizeBytes: 4 }
  const packed = { mediaType: 'n', digest: digestOf(Buffer.from('packed')), sizeBytes: 5 }
  assert.deepEqual(JSON.parse(replaceLayers(manifest, [kept, packed]).toString()), {
    x: 1,
    layers: [layer(first), { size: 5, mediaType: 'n', digest: packed.digest, annotations: { a: 'b' } }],
    schemaVersion: 2,
  })
})
