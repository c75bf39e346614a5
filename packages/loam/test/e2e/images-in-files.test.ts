// Files with images: layouts and archives, as Loam and other tools write them and read them.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { digestOf, MEDIA_TYPES } from '../../src/image/index.ts'
import {
  type BuiltImage,
  buildImage,
  buildTar,
  RegistryServer,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { DebianRegistry, must, ok, World } from '../support/world.ts'

const imageOf = (text: string, compression: 'none' | 'gzip' = 'gzip'): BuiltImage =>
  buildImage({ tars: [buildTar([{ name: 'file', data: text }])], compression })
const [one, two] = [imageOf('one'), imageOf('two')]

/** Serves an image whose digests are all sha512. Returns that of its manifest. */
function serveSha512(server: RegistryServer, { manifest, config, layers, mediaType }: BuiltImage): string {
  const put = (bytes: Buffer) => {
    const digest = digestOf(bytes, 'sha512')
    server.setBlob(digest, bytes)
    return digest
  }
  const document = JSON.parse(manifest.bytes.toString())
  document.config.digest = put(config.bytes)
  for (const [at, { bytes }] of layers.entries()) document.layers[at].digest = put(bytes)
  const bytes = Buffer.from(JSON.stringify(document))
  const digest = digestOf(bytes, 'sha512')
  server.addManifest('app', '1', { digest, bytes }, mediaType)
  return digest
}

describe('files with images', () => {
  let world: World
  const loam = (...args: readonly string[]) => world.loam(...args)

  /** Returns the config digest of each name of a store. */
  const configs = (of: World) =>
    Object.fromEntries(
      (
        JSON.parse(ok(of.loam('--json', 'images')).stdout) as { names: string[]; configDigest: string }[]
      ).flatMap(({ names, configDigest }) => names.map((name) => [name, configDigest])),
    )

  before(() => {
    world = new World()
    writeOciLayout(world.path('one'), { x: one })
    writeOciLayout(world.path('two'), { x: two })
    ok(loam('put', `oci:${world.path('one')}:x`, 'x.test/one:1'))
    ok(loam('put', `oci:${world.path('two')}:x`, 'x.test/two:1'))
  })
  after(() => {
    world[Symbol.dispose]()
  })

  test('images that share a tag are loaded from one file, each under its own name', () => {
    const both = { 'x.test/one:1': one.config.digest, 'x.test/two:1': two.config.digest }
    for (const format of ['docker-archive', 'oci-archive']) {
      const file = world.path(`same-${format}`)
      ok(loam('save', '--format', format, '-o', file, 'x.test/one:1', 'x.test/two:1'))
      using other = new World()
      ok(other.loam('load', '-i', file))
      assert.deepEqual(configs(other), both)
      assert.equal(ok(other.loam('fsck')).status, 0)
    }
    // As containerd, nerdctl and Docker name them; and one that has the tag alone.
    const layout = world.path('annotated')
    writeOciLayout(layout, { one, two, bare: two })
    const index = JSON.parse(readFileSync(`${layout}/index.json`, 'utf8'))
    for (const { annotations } of index.manifests) {
      const tag = annotations['org.opencontainers.image.ref.name']
      if (tag !== 'bare') annotations['io.containerd.image.name'] = `x.test/${tag}:1`
      annotations['org.opencontainers.image.ref.name'] = '1'
    }
    writeFileSync(`${layout}/index.json`, JSON.stringify(index))
    using other = new World()
    ok(other.loam('load', '-i', layout))
    assert.deepEqual(configs(other), both)
  })

  test('an image that has to be converted is copied to every place, and others read it there', async () => {
    using registry = await DebianRegistry.start()
    const skopeos = world.path('skopeos.tar')
    must('skopeo', 'copy', '-q', `oci:${world.path('one')}:x`, `docker-archive:${skopeos}:x.test/one:1`)
    const own = world.path('own.tar')
    ok(loam('save', '-o', own, 'x.test/one:1'))
    for (const [at, file] of [skopeos, own].entries()) {
      // Docker's type of manifest stays, which skopeo does not look for in a layout.
      const forLoam = [`oci:${world.path(`layout-${at}`)}:1`, `oci-archive:${world.path(`archive-${at}`)}:1`]
      const forOthers = [
        `docker-archive:${world.path(`docker-${at}`)}:x.test/copy:1`,
        `docker://${registry.host}/copy:${at}`,
      ]
      for (const target of [...forLoam, ...forOthers]) ok(loam('copy', `docker-archive:${file}`, target))
      for (const [index, target] of forLoam.entries()) {
        using other = new World()
        ok(other.loam('put', target, `x.test/copy:${index}`))
        assert.equal(configs(other)[`x.test/copy:${index}`], one.config.digest)
      }
      for (const target of forOthers) {
        const away = world.path('away')
        must('skopeo', 'copy', '-q', '--src-tls-verify=false', target, `dir:${away}`)
        const manifest = JSON.parse(readFileSync(`${away}/manifest.json`, 'utf8'))
        assert.equal(manifest.config.digest, one.config.digest, target)
      }
    }
  })

  test('an image whose digests are sha512 keeps them in a layout and in a saved file, and others read it there', async () => {
    await using server = await RegistryServer.start()
    for (const compression of ['none', 'gzip'] as const) {
      const image = imageOf('three', compression)
      const digest = serveSha512(server, image)
      using own = new World()
      const wanted = `${server.host}/app@${digest}`
      ok(await own.loamAsync('pull', '--blob_retention=all', wanted))
      const [layout, archive, saved] = [own.path('layout'), own.path('layout.tar'), own.path('saved.tar')]
      ok(own.loam('export', '--format', 'oci', wanted, layout))
      const words = own.args('export', '--format', 'oci', wanted, '-')
      must('sh', '-c', 'exec "$@" >"$0"', archive, process.execPath, ...words)
      const output = ok(own.loam('save', '--format', 'oci-archive', '-o', saved, wanted))
      assert.doesNotMatch(output.stderr, /not compressed/)
      for (const name of [`oci:${layout}`, `oci-archive:${archive}`, `oci-archive:${saved}`]) {
        assert.equal(digestOf(Buffer.from(must('skopeo', 'inspect', '--raw', name)), 'sha512'), digest)
        using other = new World()
        ok(other.loam('put', name, 'x.test/app:1'))
        ok(other.loam('fsck'))
      }
    }
  })

  test('a name states a digest in a file only if the image has it there', async () => {
    await using server = await RegistryServer.start()
    server.addImage('app', '1', one)
    const [plain, tagged] = [`${server.host}/app@${one.manifest.digest}`, `${server.host}/app:1`]
    const both = `${tagged}@${one.manifest.digest}`
    for (const retention of ['none', 'all']) {
      using own = new World()
      const kept = retention === 'all'
      for (const [at, name] of [plain, both].entries()) {
        const path = (kind: string) => own.path(`${kind}-${retention}-${at}`)
        ok(await own.loamAsync('pull', `--blob_retention=${retention}`, name))
        ok(await own.loamAsync('save', '-o', path('saved'), name))
        ok(await own.loamAsync('export', '--format', 'oci', name, path('layout')))
        const written = kept ? name : at === 1 ? tagged : undefined
        const [{ annotations = {} }] = JSON.parse(
          readFileSync(`${path('layout')}/index.json`, 'utf8'),
        ).manifests
        assert.equal(annotations['org.opencontainers.image.ref.name'], written)
        const [{ RepoTags }] = JSON.parse(must('tar', '-xOf', path('saved'), 'manifest.json'))
        assert.deepEqual(RepoTags, at === 1 ? [tagged] : [])
        must('skopeo', 'inspect', `docker-archive:${path('saved')}`)
        using other = new World()
        ok(other.loam('load', '-i', path('saved')))
        assert.deepEqual(Object.keys(configs(other)), written === undefined ? [] : [written])
      }
    }
  })

  test('a name belongs to one image of a saved file: one that lost its digest is left out for another image', async () => {
    await using server = await RegistryServer.start()
    server.addImage('app', '1', one)
    server.addImage('app', '1', two)
    const tagged = `${server.host}/app:1`
    const [first, second] = [`${tagged}@${one.manifest.digest}`, `${tagged}@${two.manifest.digest}`]
    for (const retention of ['none', 'all']) {
      for (const [at, names] of [
        [first, second],
        [first, tagged],
        [tagged, first],
      ].entries()) {
        using own = new World()
        const file = own.path('saved')
        const flags = [`--blob_retention=${retention}`, '-o', file]
        const { stderr } = ok(await own.loamAsync('save', ...flags, ...names))
        const left = retention === 'all' ? [] : at === 0 ? [first, second] : [first]
        for (const name of left) assert.ok(stderr.includes(`${name} has no name in the file`), stderr)
        const entries = JSON.parse(must('tar', '-xOf', file, 'manifest.json')) as { RepoTags: string[] }[]
        const tags = names.map((name) => (name === tagged ? [tagged] : []))
        assert.deepEqual(
          entries.map(({ RepoTags }) => RepoTags),
          tags,
        )
        if (at > 0) must('skopeo', 'inspect', `docker-archive:${file}:${tagged}`)
        using other = new World()
        ok(other.loam('load', '-i', file))
        const kept = names.filter((name) => !left.includes(name)).toSorted()
        assert.deepEqual(Object.keys(configs(other)).toSorted(), kept)
        if (at > 0) assert.equal(configs(other)[tagged], two.config.digest)
      }
    }
  })

  test('an image is one entry of a saved file, with all its names', () => {
    ok(loam('tag', 'x.test/one:1', 'x.test/other:2'))
    for (const format of ['docker-archive', 'oci-archive']) {
      const file = world.path(`names-${format}`)
      const names = ['x.test/one:1', 'x.test/other:2']
      ok(loam('save', '--format', format, '-o', file, ...names, 'x.test/one:1'))
      const { manifests } = JSON.parse(must('tar', '-xOf', file, 'index.json'))
      assert.equal(manifests.length, names.length)
      using other = new World()
      ok(other.loam('load', '-i', file))
      assert.deepEqual(Object.keys(configs(other)).toSorted(), names)
      if (format !== 'docker-archive') continue
      const entries = JSON.parse(must('tar', '-xOf', file, 'manifest.json'))
      assert.deepEqual(
        entries.map(({ RepoTags }: { readonly RepoTags: unknown }) => RepoTags),
        [names],
      )
      must('skopeo', 'inspect', `docker-archive:${file}`)
    }
  })

  test('what is no image in a layout is not loaded, with a note, and put does not count it', () => {
    const layout = world.path('signed')
    const types = {
      // As cosign has signatures, and as others refer to an image.
      signature: [MEDIA_TYPES.ociConfig, 'application/vnd.dev.cosign.simplesigning.v1+json'],
      referrer: ['application/vnd.oci.empty.v1+json', 'application/spdx+json'],
    }
    const beside = Object.values(types).map(([config = '', layer = '']) => {
      const document = JSON.parse(one.manifest.bytes.toString())
      document.config.mediaType = config
      document.layers[0].mediaType = layer
      document.subject = { ...document.layers[0], digest: one.manifest.digest, mediaType: one.mediaType }
      const bytes = Buffer.from(JSON.stringify(document))
      return { ...one, manifest: { digest: digestOf(bytes), bytes } }
    })
    writeOciLayout(layout, { 'x.test/one:1': one, signature: beside[0] ?? one, referrer: beside[1] ?? one })
    using other = new World()
    const { stdout, stderr } = ok(other.loam('load', '-i', layout))
    assert.equal(stdout, 'Loaded image: x.test/one:1\n')
    for (const { manifest } of beside) assert.ok(stderr.includes(`${manifest.digest} is not loaded`), stderr)
    ok(other.loam('put', layout, 'x.test/put:1'))
    ok(other.loam('pull', `oci:${layout}`))
  })
})
