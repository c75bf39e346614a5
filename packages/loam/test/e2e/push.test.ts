// An unchanged image keeps its digest when it is pushed. With Debian's docker-registry; skopeo checks the result.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { isLoamError } from '../../src/errors/index.ts'
import { type Loam, openLoam } from '../../src/app/index.ts'
import type { PushEvent } from '../../src/images/index.ts'
import { digestOf } from '../../src/image/index.ts'
import {
  buildDockerArchive,
  buildImage,
  buildTar,
  type BuiltImage,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { DebianRegistry, World } from '../support/world.ts'

const INDEX = 'application/vnd.oci.image.index.v1+json'
const LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'
const here = { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' }
const tar = (text: string) => buildTar([{ name: 'file', data: text.repeat(1000) }])

/** The same image with more in its manifest. */
function withManifest(
  of: BuiltImage,
  change: (manifest: { readonly layers: readonly object[] }) => object,
): BuiltImage {
  const bytes = Buffer.from(JSON.stringify(change(JSON.parse(of.manifest.bytes.toString('utf8')))))
  return { ...of, manifest: { digest: digestOf(bytes), bytes } }
}

/** Puts an image into a registry as other tools do. */
async function upload(host: string, repository: string, tag: string, image: BuiltImage): Promise<void> {
  const base = `http://${host}/v2/${repository}`
  for (const { digest, bytes } of [image.config, ...image.layers]) {
    const begun = await fetch(`${base}/blobs/uploads/`, { method: 'POST' })
    const url = new URL(begun.headers.get('location') ?? '', `http://${host}`)
    url.searchParams.set('digest', digest)
    const headers = { 'content-type': 'application/octet-stream' }
    await fetch(url, { method: 'PUT', body: Buffer.from(bytes), headers })
  }
  const answer = await fetch(`${base}/manifests/${tag}`, {
    method: 'PUT',
    body: Buffer.from(image.manifest.bytes),
    headers: { 'content-type': image.mediaType },
  })
  assert.equal(answer.status, 201, await answer.text())
}

describe('push', () => {
  let source: DebianRegistry
  let target: DebianRegistry
  before(async () => {
    source = await DebianRegistry.start()
    target = await DebianRegistry.start()
  })
  after(() => {
    source[Symbol.dispose]()
    target[Symbol.dispose]()
  })
  const raw = (reference: string) =>
    spawnSync('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${reference}`], {
      encoding: 'buffer',
    }).stdout
  const digestAt = (reference: string) =>
    `sha256:${createHash('sha256').update(raw(reference)).digest('hex')}`
  const open = async (world: World): Promise<Loam> =>
    openLoam({
      flags: { root: world.root, state: join(world.folder, 'state') },
      env: process.env,
      file: null,
    })
  /** Pushes, and returns how each blob got there. */
  const push = async (loam: Loam, image: string, to: string, more: object = {}) => {
    const routes: string[] = []
    const onPush = (event: PushEvent) => {
      if (event.kind === 'blob') routes.push(event.route)
      else if (event.kind === 'digest') routes.push('changed')
    }
    return { routes, pushed: await loam.push(image, { to, onPush, ...more }) }
  }

  const kinds: Readonly<Record<string, BuiltImage>> = {
    'of OCI, with annotations of its own and of its layers': withManifest(
      buildImage({ tars: [tar('a'), tar('b')] }),
      (manifest) => ({
        ...manifest,
        annotations: { made: 'elsewhere' },
        layers: manifest.layers.map((layer: object) => ({ ...layer, annotations: { note: 'kept' } })),
      }),
    ),
    'of Docker': buildImage({ tars: [tar('c'), tar('d')], isDocker: true }),
    'with layers packed by zstd': buildImage({ tars: [tar('e')], compression: 'zstd' }),
    'with layers that are not packed': buildImage({ tars: [tar('f')], compression: 'none' }),
  }
  for (const [kind, image] of Object.entries(kinds)) {
    test(`push keeps the digest of an image ${kind}: in its tag, in another repository, and in another registry`, async () => {
      using world = new World()
      await upload(source.host, 'team/app', '1', image)
      const name = `${source.host}/team/app:1`
      await using loam = await open(world)
      await loam.pull(name)
      assert.deepEqual(await push(loam, name, name), {
        routes: [],
        pushed: { digest: image.manifest.digest, layers: [], changes: [] },
      })
      const beside = await push(loam, name, `${source.host}/other/app:1`)
      assert.deepEqual(new Set(beside.routes.slice(1)), new Set(['mounted']))
      const away = await push(loam, name, `${target.host}/copy/app:1`)
      assert.deepEqual(
        away.routes.slice(1),
        image.layers.map(() => (kind.includes('not packed') ? 'uploaded' : 'copied')),
      )
      for (const reference of [name, `${source.host}/other/app:1`, `${target.host}/copy/app:1`])
        assert.deepEqual(raw(reference), image.manifest.bytes, reference)
    })
  }

  test('push keeps the digest of an image of a layout, and copies its blobs from there', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const image = buildImage({ tars: [tar('layout')] })
    writeOciLayout(layout, { image })
    await using loam = await open(world)
    await loam.images.put(layout, 'laid:1')
    const { pushed, routes } = await push(loam, 'laid:1', `${target.host}/laid:1`)
    assert.deepEqual([pushed.digest, routes], [image.manifest.digest, ['uploaded', 'copied']])
    assert.deepEqual(raw(`${target.host}/laid:1`), image.manifest.bytes)
    // It can be pulled from the target of the push, too.
    rmSync(layout, { recursive: true })
    const again = await push(loam, 'laid:1', `${target.host}/laid-again:1`)
    assert.deepEqual([again.pushed.digest, again.routes], [image.manifest.digest, ['mounted', 'mounted']])
  })

  test('push compresses layers again that are not available elsewhere: it reports the new digest, and the rest of the manifest stays', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const image = withManifest(
      buildImage({ tars: [tar('gone'), tar('gone too')], compression: 'zstd' }),
      (manifest) => ({
        ...manifest,
        annotations: { made: 'elsewhere' },
      }),
    )
    writeOciLayout(layout, { image })
    await using loam = await open(world)
    await loam.images.put(layout, 'gone:1')
    rmSync(layout, { recursive: true })
    const first = await push(loam, 'gone:1', `${target.host}/gone:1`)
    assert.deepEqual(first.routes, ['uploaded', 'packed', 'packed', 'changed'])
    assert.deepEqual(
      first.pushed.changes.map(({ from, to }) => [from, to]),
      [[image.manifest.digest, first.pushed.digest]],
    )
    assert.match(
      first.pushed.changes[0]?.reason ?? '',
      new RegExp(`^layers recompressed: push blob ${image.layers[0]?.digest}: .*${layout}`),
    )
    const manifest = JSON.parse(raw(`${target.host}/gone:1`).toString('utf8'))
    assert.equal(digestAt(`${target.host}/gone:1`), first.pushed.digest)
    assert.deepEqual(manifest.annotations, { made: 'elsewhere' })
    assert.equal(manifest.config.digest, image.config.digest)
    // The same once more: nothing is sent, and the digest stays.
    const second = await push(loam, 'gone:1', `${target.host}/gone:1`)
    assert.deepEqual(
      [second.pushed.digest, second.routes],
      [first.pushed.digest, ['exists', 'exists', 'exists', 'changed']],
    )
    await using other = await openLoam({
      flags: { root: join(world.folder, 'other'), state: join(world.folder, 'state2') },
      env: process.env,
      file: null,
    })
    assert.equal((await other.pull(`${target.host}/gone:1`)).digest, first.pushed.digest)
  })

  test('push compresses layers that Loam has created by gzip, and sends all others unchanged', async () => {
    using world = new World()
    const base = buildImage({ tars: [tar('base')] })
    await upload(source.host, 'team/base', '1', base)
    const archive = join(world.folder, 'archive.tar')
    writeFileSync(archive, buildDockerArchive(base, [tar('base')], ['saved:1']))
    await using loam = await open(world)
    await loam.images.put(archive, 'saved:1')
    const alone = await push(loam, 'saved:1', `${target.host}/saved:1`)
    assert.equal(alone.pushed.changes.length, 1)
    assert.deepEqual(alone.routes.slice(1), ['packed', 'changed'])
    await loam.pull(`${source.host}/team/base:1`)
    const with2 = await push(loam, 'saved:1', `${target.host}/saved:2`)
    assert.deepEqual(with2.routes.slice(1), ['copied', 'changed'])
    const manifest = JSON.parse(raw(`${target.host}/saved:2`).toString('utf8'))
    assert.equal(manifest.layers[0].digest, base.layers[0]?.digest)
    assert.match(manifest.layers[0].mediaType, /docker.*gzip$/)
  })

  const foreign = buildImage({ tars: [tar('riscv')], platform: { os: 'linux', architecture: 'riscv64' } })
  const buildMeta = (type: string, ...images: readonly (readonly [BuiltImage, object])[]): BuiltImage => {
    const manifests = images.map(([image, more]) => ({
      mediaType: image.mediaType,
      digest: image.manifest.digest,
      size: image.manifest.bytes.length,
      ...more,
    }))
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, manifests }))
    return {
      ...foreign,
      layers: [],
      config: foreign.config,
      mediaType: type,
      manifest: { digest: digestOf(bytes), bytes },
    }
  }
  for (const type of [INDEX, LIST]) {
    test(`push keeps the digest of an index and all its platforms: ${type}`, async () => {
      using world = new World()
      const isDocker = type === LIST
      const local = buildImage({ tars: [tar(`local ${type}`)], platform: here, isDocker })
      const away = buildImage({
        tars: [tar(`away ${type}`)],
        platform: { os: 'linux', architecture: 'riscv64' },
        isDocker,
      })
      const repository = `multi/${isDocker ? 'docker' : 'oci'}`
      await upload(source.host, repository, 'local', local)
      await upload(source.host, repository, 'away', away)
      const index = buildMeta(
        type,
        [local, { platform: here }],
        [away, { platform: { os: 'linux', architecture: 'riscv64' } }],
      )
      await upload(source.host, repository, '1', index)
      const name = `${source.host}/${repository}:1`
      await using loam = await open(world)
      await loam.pull(name)
      const { pushed } = await push(loam, name, `${target.host}/${repository}:1`)
      assert.deepEqual([pushed.digest, pushed.changes], [index.manifest.digest, []])
      assert.deepEqual(raw(`${target.host}/${repository}:1`), index.manifest.bytes)
      assert.deepEqual(raw(`${target.host}/${repository}@${away.manifest.digest}`), away.manifest.bytes)
      const again = await push(loam, name, `${target.host}/${repository}:1`)
      assert.deepEqual(again.routes, [])
      // One platform does not replace the index, but can be pushed elsewhere.
      const platform = here
      await assert.rejects(push(loam, name, `${target.host}/${repository}:1`, { platform }), (error) =>
        isLoamError(error, 'INDEX_EXISTS'),
      )
      assert.deepEqual(raw(`${target.host}/${repository}:1`), index.manifest.bytes)
      const one = await push(loam, name, `${target.host}/${repository}:one`, { platform })
      assert.equal(one.pushed.digest, local.manifest.digest)
      const replaced = await push(loam, name, `${target.host}/${repository}:1`, {
        platform,
        replaceIndex: true,
      })
      assert.equal(replaced.pushed.digest, local.manifest.digest)
      assert.equal(digestAt(`${target.host}/${repository}:1`), local.manifest.digest)
    })
  }

  test('push of an index whose other platforms are not available any more sends one platform, which is reported, or fails', async () => {
    using world = new World()
    const gone = await DebianRegistry.start()
    const local = buildImage({ tars: [tar('here')], platform: here, compression: 'none' })
    await upload(gone.host, 'app', 'a', local)
    await upload(gone.host, 'app', 'b', foreign)
    const riscv = { platform: { os: 'linux', architecture: 'riscv64' } }
    const index = buildMeta(INDEX, [local, { platform: here }], [foreign, riscv])
    await upload(gone.host, 'app', '1', index)
    const name = `${gone.host}/app:1`
    await using loam = await openLoam({
      flags: { root: world.root, state: join(world.folder, 'state'), registry_tries: 1 },
      env: process.env,
      file: null,
    })
    await loam.pull(name)
    gone[Symbol.dispose]()
    await assert.rejects(push(loam, name, `${target.host}/gone/app:1`, { allPlatforms: true }), (error) =>
      isLoamError(error, 'DOCUMENT_DAMAGED'),
    )
    const { pushed } = await push(loam, name, `${target.host}/gone/app:1`)
    assert.equal(pushed.digest, local.manifest.digest)
    assert.deepEqual(
      pushed.changes.map(({ from, to }) => [from, to]),
      [[index.manifest.digest, local.manifest.digest]],
    )
    assert.match(pushed.changes[0]?.reason ?? '', /only linux/)
  })
})
