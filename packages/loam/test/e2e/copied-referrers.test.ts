// What is about an image reaches other registries with it: by `loam copy --referrers` and by `loam push`, where the registries have no referrers API.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { digestOf } from '../../src/image/index.ts'
import { buildImage, buildTar, type BuiltBlob } from '../../src/testing/index.ts'
import { DebianRegistry, ok, World } from '../support/world.ts'

const INDEX = 'application/vnd.oci.image.index.v1+json'
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'

const json = (value: object): BuiltBlob => {
  const bytes = Buffer.from(JSON.stringify(value))
  return { digest: digestOf(bytes), bytes }
}
const describeAs = (mediaType: string | undefined, { digest, bytes }: BuiltBlob) => ({
  mediaType,
  digest,
  size: bytes.length,
})
const indexOf = (...manifests: readonly object[]) => json({ schemaVersion: 2, mediaType: INDEX, manifests })

const platform = { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' }
const image = buildImage({ tars: [buildTar([{ name: 'file', data: 'data' }])], platform })
const empty = { digest: digestOf(Buffer.from('{}')), bytes: Buffer.from('{}') }
/** A signature, or another artifact, about a manifest. */
const artifactOf = (subject: BuiltBlob, annotations: Readonly<Record<string, string>>, more: object = {}) =>
  json({
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: describeAs('application/x-config', empty),
    layers: [describeAs('application/x-layer', empty)],
    subject: describeAs(MANIFEST, subject),
    annotations,
    ...more,
  })

class Repository {
  readonly name: string
  readonly #base: string
  constructor(host: string, repository: string) {
    this.name = `${host}/${repository}`
    this.#base = `http://${host}/v2/${repository}`
  }

  async putBlobs(...blobs: readonly BuiltBlob[]): Promise<void> {
    for (const { digest, bytes } of blobs) {
      const begun = await fetch(`${this.#base}/blobs/uploads/`, { method: 'POST' })
      const url = new URL(begun.headers.get('location') ?? '', this.#base)
      url.searchParams.set('digest', digest)
      const headers = { 'content-type': 'application/octet-stream' }
      assert.equal((await fetch(url, { method: 'PUT', body: Buffer.from(bytes), headers })).status, 201)
    }
  }

  async put(tag: string, mediaType: string, { bytes }: BuiltBlob): Promise<void> {
    const headers = { 'content-type': mediaType }
    const answer = await fetch(`${this.#base}/manifests/${tag}`, {
      method: 'PUT',
      body: Buffer.from(bytes),
      headers,
    })
    assert.equal(answer.status, 201, await answer.text())
  }

  async get(selector: string): Promise<string> {
    const headers = { accept: `${INDEX}, ${MANIFEST}` }
    const answer = await fetch(`${this.#base}/manifests/${selector}`, { headers })
    const text = await answer.text()
    assert.equal(answer.status, 200, `${selector}: ${text}`)
    return text
  }

  /** The entries of the list that clients keep of the referrers of a manifest. */
  async listed({ digest }: BuiltBlob): Promise<unknown[]> {
    return JSON.parse(await this.get(digest.replace(':', '-'))).manifests
  }
}

describe('what is about an image', () => {
  let world: World
  let registry: DebianRegistry
  let other: DebianRegistry
  before(async () => {
    world = new World()
    registry = await DebianRegistry.start()
    other = await DebianRegistry.start()
  })
  after(() => {
    other[Symbol.dispose]()
    registry[Symbol.dispose]()
    world[Symbol.dispose]()
  })

  test('is copied also for an image in a nested index, with its annotations in the list, and once', async () => {
    const from = new Repository(registry.host, 'nested')
    const inner = indexOf({ ...describeAs(MANIFEST, image.manifest), platform })
    const outer = indexOf(describeAs(INDEX, inner))
    const signature = artifactOf(image.manifest, { of: 'the signature' })
    const aboutIt = artifactOf(signature, { of: 'what is about the signature' }, { artifactType: 'a/b' })
    await from.putBlobs(image.config, ...image.layers, empty)
    await from.put('1-inner', MANIFEST, image.manifest)
    await from.put('inner', INDEX, inner)
    await from.put('1', INDEX, outer)
    for (const [subject, each] of [
      [image.manifest, signature],
      [signature, aboutIt],
    ] as const) {
      await from.put(each.digest, MANIFEST, each)
      await from.put(subject.digest.replace(':', '-'), INDEX, indexOf(describeAs(MANIFEST, each)))
    }
    const to = new Repository(other.host, 'nested')
    const entryOf = (each: BuiltBlob, artifactType: string, of: string) => ({
      ...describeAs(MANIFEST, each),
      artifactType,
      annotations: { of },
    })
    // The second time the registry has all of them.
    for (let times = 0; times < 2; times += 1) {
      const copied = ok(world.loam('--json', 'copy', '--referrers', `${from.name}:1`, `${to.name}:1`))
      assert.equal(JSON.parse(copied.stdout).referrers.length, 2)
      assert.deepEqual(await to.listed(image.manifest), [
        entryOf(signature, 'application/x-config', 'the signature'),
      ])
      assert.deepEqual(await to.listed(signature), [entryOf(aboutIt, 'a/b', 'what is about the signature')])
    }
  })

  test('is listed where it is pushed, if it is an image itself, alone or in an index whose entry states no type', async () => {
    const from = new Repository(registry.host, 'pushed')
    const { mediaType: _mediaType, ...fields } = JSON.parse(image.manifest.bytes.toString())
    const about = json({
      ...fields,
      subject: describeAs(MANIFEST, image.manifest),
      annotations: { of: 'it' },
    })
    const index = indexOf({ ...describeAs(undefined, about), platform })
    await from.putBlobs(image.config, ...image.layers)
    await from.put('subject', MANIFEST, image.manifest)
    await from.put('alone', MANIFEST, about)
    await from.put('index', INDEX, index)
    for (const tag of ['alone', 'index']) {
      const to = new Repository(other.host, `pushed-${tag}`)
      ok(world.loam('pull', `${from.name}:${tag}`))
      ok(world.loam('push', `${from.name}:${tag}`, `${to.name}:1`))
      assert.equal(await to.get('1'), (tag === 'alone' ? about : index).bytes.toString())
      assert.deepEqual(await to.listed(image.manifest), [
        {
          ...describeAs(MANIFEST, about),
          artifactType: 'application/vnd.oci.image.config.v1+json',
          annotations: { of: 'it' },
        },
      ])
    }
  })
})
