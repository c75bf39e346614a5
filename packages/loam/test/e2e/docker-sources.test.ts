// Sources of Docker images other than current registries: archives of before 1.10, schema 1, folders of archives, Hadoop.
import assert from 'node:assert/strict'
import { createHash, generateKeyPairSync, sign } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import {
  type BuildEntry,
  buildImage,
  buildTar,
  listTree,
  RegistryServer,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { setUp } from '../../src/testing/set-up.ts'
import { packedBy } from '../support/packing.ts'
import { failureOf, DebianRegistry, must, World, provision } from '../support/world.ts'

const ID = (digit: string) => digit.repeat(64)
const BASE = [
  { name: 'base', data: 'base' },
  { name: 'gone', data: 'x' },
  { name: 'dir/' },
  { name: 'dir/low', data: 'low' },
]
const TOP = [
  { name: 'top', data: 'top' },
  { name: '.wh.gone', data: '' },
  { name: 'dir/.wh..wh..opq', data: '' },
  { name: 'dir/high', data: 'high' },
]
const FILES = ['base', 'dir', 'top']

interface V1Layer {
  readonly id: string
  readonly parent?: string
  readonly entries?: readonly BuildEntry[]
  readonly config?: Record<string, unknown>
}

/** Writes a directory as `docker save` did before 1.10. */
function writeV1(folder: string, repositories: unknown, layers: readonly V1Layer[]): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'repositories'), JSON.stringify(repositories))
  for (const { id, parent, entries = [], config = {} } of layers) {
    mkdirSync(join(folder, id))
    writeFileSync(join(folder, id, 'VERSION'), '1.0')
    writeFileSync(
      join(folder, id, 'json'),
      JSON.stringify({
        id,
        ...(parent === undefined ? {} : { parent }),
        os: 'linux',
        architecture: 'amd64',
        config,
      }),
    )
    writeFileSync(join(folder, id, 'layer.tar'), buildTar(entries))
  }
}

const CHAIN: readonly V1Layer[] = [
  { id: ID('a'), entries: BASE },
  { id: ID('b'), parent: ID('a'), entries: TOP, config: { Cmd: ['/top'], Env: ['A=b'] } },
]

/** Writes the archive of Mesos's own tests (tests/containerizer/docker_archive.hpp of 2015) into a folder, and returns its path. */
function writeMesosArchive(images: string): string {
  const source = `${images}-abc`
  mkdirSync(images, { recursive: true })
  const layers = [
    ['123', '', 'foo 123'],
    ['456', '123', 'bar 456'],
  ] as const
  for (const [id, parent, text] of layers) {
    mkdirSync(join(source, id), { recursive: true })
    writeFileSync(join(source, id, 'json'), JSON.stringify({ parent }))
    const files = [{ name: './' }, { name: './temp', data: text }, { name: `./temp${id}`, data: id }]
    writeFileSync(join(source, id, 'layer.tar'), buildTar(files))
  }
  writeFileSync(join(source, 'repositories'), JSON.stringify({ abc: { latest: '456' } }))
  const archive = join(images, 'abc.tar')
  must('tar', '-C', source, '-cf', archive, '.')
  return archive
}

describe('archives of several images', () => {
  const images = ['one', 'two', 'three'].map((text) =>
    buildImage({ tars: [buildTar([{ name: 'f', data: text }])] }),
  )
  /** Returns which of the images a command imports. */
  const textOf = (world: World, ...args: readonly string[]) => {
    const { status, stdout, stderr } = world.loam('--json', ...args)
    assert.equal(status, 0, `${args.join(' ')}: ${stderr}`)
    const { diffId } = JSON.parse(stdout).image.layers[0]
    return ['one', 'two', 'three'][images.findIndex(({ diffIds }) => diffIds[0] === diffId)]
  }

  /** The same three images in all forms: app:1, app:2 and registry.test/other:latest. */
  function writeAll(world: World): Readonly<Record<string, string>> {
    const place = (name: string) => join(world.folder, name)
    const layout = place('layout')
    writeOciLayout(layout, {
      'app:1': images[0],
      '2': images[1],
      'registry.test/other:latest': images[2],
    } as never)
    const names = ['app:1', '2', 'registry.test/other:latest']
    const archive = place('saved.tar')
    const tags = ['app:1', 'app:2', 'registry.test/other:latest']
    for (const [index, name] of names.entries())
      must(
        'skopeo',
        'copy',
        '--quiet',
        `oci:${layout}:${name}`,
        `docker-archive:${place(`single-${index}`)}.tar:${tags[index]}`,
      )
    // skopeo adds no second image to an archive: its outputs are combined as docker save does it.
    mkdirSync(place('save'))
    const manifest = names.flatMap((_name, index) => {
      must('tar', '-C', place('save'), '-xf', `${place(`single-${index}`)}.tar`)
      return JSON.parse(readFileSync(place('save/manifest.json'), 'utf8')) as unknown[]
    })
    writeFileSync(
      place('save/manifest.json'),
      JSON.stringify([...manifest, { Config: 'x.json', RepoTags: ['<none>:<none>'], Layers: null }]),
    )
    rmSync(place('save/repositories'), { force: true })
    must('tar', '-C', place('save'), '-cf', archive, '.')
    const v1 = place('v1')
    const ids = ['1', '2', '3']
    writeV1(
      v1,
      { app: { '1': '1', '2': '2' }, 'registry.test/other': { latest: '3' } },
      ids.map((id, index) => ({ id, entries: [{ name: 'f', data: ['one', 'two', 'three'][index] ?? '' }] })),
    )
    return { layout, archive, folder: place('save'), v1 }
  }

  test('put takes the image that is called NAME out of several, in every form, and lists them if none is', () => {
    using world = new World()
    for (const [form, path] of Object.entries(writeAll(world))) {
      for (const [name, text] of [
        ['app:1', 'one'],
        ['docker.io/library/app:2', 'two'],
        ['registry.test/other', 'three'],
      ] as const) {
        assert.equal(textOf(world, 'put', path, name), text, `${form} ${name}`)
      }
      for (const name of ['app:3', 'nope', 'other:latest']) {
        const { code, message, hint } = failureOf(world, 'put', path, name)
        assert.equal(code, 'IMAGE_NOT_FOUND', `${form} ${name}`)
        assert.match(message, /images none of them is /)
        // An invalid reference cannot name an image.
        assert.doesNotMatch(hint ?? '', /<none>/)
        for (const known of ['app:1', '2', 'registry.test/other:latest'])
          assert.match(hint ?? '', new RegExp(`[: /]${known}[, ]`), `${form} ${name}`)
      }
    }
  })

  test('put takes the image that its transport names out of several, under any NAME', () => {
    using world = new World()
    const { layout = '', archive = '', folder = '', v1 = '' } = writeAll(world)
    for (const [address, text] of [
      [`docker-archive:${archive}:app:2`, 'two'],
      [`docker-archive:${folder}:registry.test/other`, 'three'],
      [`docker-archive:${v1}:app:1`, 'one'],
      [`oci:${layout}:2`, 'two'],
    ] as const) {
      assert.equal(textOf(world, 'put', address, 'mine:5'), text, address)
    }
    assert.equal(failureOf(world, 'put', `docker-archive:${archive}:app:9`, 'app:1').code, 'IMAGE_NOT_FOUND')
    assert.equal(failureOf(world, 'put', 'docker-archive:', 'app:1').code, 'SOURCE_INVALID')
    // A file may have that name.
    copyFileSync(`${join(world.folder, 'single-0')}.tar`, join(world.folder, 'aci:x'))
    const put = world.loam('put', `file://${world.folder}/aci:x`, 'file')
    assert.equal(put.status, 0, put.stderr)
  })

  test('the files of a root filesystem are no image, which is told with what makes one of them', () => {
    using world = new World()
    mkdirSync(world.path('tree/etc'), { recursive: true })
    const { code, hint = '' } = failureOf(world, 'put', world.path('tree'), 'app:1')
    assert.deepEqual([code, /docker import/.test(hint)], ['SOURCE_INVALID', true])
  })

  test('a directory of archives with several images gives the requested one', () => {
    using world = new World()
    for (const [form, path] of Object.entries(writeAll(world))) {
      const folder = join(world.folder, `registry-${form}`)
      mkdirSync(folder)
      for (const name of ['app:1', 'app:2', 'app:3'])
        if (form === 'archive') copyFileSync(path, join(folder, `${name}.tar`))
        else must('tar', '-C', path, '-cf', join(folder, `${name}.tar`), '.')
      for (const [name, text] of [
        ['app:1', 'one'],
        ['app:2', 'two'],
      ] as const)
        assert.equal(textOf(world, 'pull', name, `--docker_registry=${folder}`), text, `${form} ${name}`)
      assert.equal(
        failureOf(world, 'pull', `--docker_registry=${folder}`, 'app:3').code,
        'IMAGE_NOT_FOUND',
        form,
      )
    }
  })
})

describe('archives of before Docker 1.10', () => {
  test('an archive of before Docker 1.10 is read as directory and as tar, by every backend, base first, and found again', () => {
    using world = new World()
    const folder = join(world.folder, 'saved')
    writeV1(folder, { 'team/app': { '1': ID('b'), old: ID('a') } }, CHAIN)
    const archive = join(world.folder, 'saved.tar')
    must('tar', '-cf', archive, '-C', folder, '.')
    const digests = new Set<string>()
    for (const [index, backend] of ['erofs', 'overlay', 'copy'].entries()) {
      const made = provision(
        world,
        `docker-archive:${index === 0 ? folder : archive}:team/app:1`,
        '--backend',
        backend,
      )
      digests.add(made.image.digest)
      assert.deepEqual(readdirSync(made.rootfs).toSorted(), FILES)
      assert.deepEqual(readdirSync(join(made.rootfs, 'dir')), ['high'])
      assert.deepEqual(made.image.dockerManifest.config.Cmd, ['/top'])
      assert.equal(made.image.dockerManifest.id, undefined)
      assert.equal(readFileSync(made.image.configPath, 'utf8').includes('"Cmd"'), true)
      world.loam('destroy', made.containerId)
    }
    assert.equal(digests.size, 1)
    // Its own name also refers to it: the historical local store.
    assert.deepEqual(readdirSync(provision(world, 'team/app:1').rootfs).toSorted(), FILES)
    const put = world.loam('put', archive, 'registry.example/other:2')
    assert.match(put.stderr, /it has 2 images/)
  })

  test('an archive that is put by address and name is found by name', () => {
    using world = new World()
    const folder = join(world.folder, 'saved')
    writeV1(folder, { app: { latest: ID('b') } }, CHAIN)
    const put = world.loam('put', `file://${folder}`, 'registry.example/other:2')
    assert.equal(put.status, 0, put.stderr)
    const names = JSON.parse(world.loam('--json', 'images').stdout).flatMap(
      (image: { names: string[] }) => image.names,
    )
    assert.ok(
      names.includes('registry.example/other:2') && names.includes('docker.io/library/app:latest'),
      names.join(),
    )
    assert.deepEqual(readdirSync(provision(world, 'registry.example/other:2').rootfs).toSorted(), FILES)
  })

  test("Mesos's own archive is read from a directory, kept without it, and repaired from it", () => {
    using world = new World()
    // ProvisionerDockerLocalStoreTest: LocalStoreTestWithTar, MetadataManagerInitialization, MissingLayer.
    const images = join(world.folder, 'images')
    const archive = writeMesosArchive(images)
    for (const place of [images, `file://${images}`]) {
      const made = provision(world, 'abc', `--docker_registry=${place}`)
      assert.deepEqual(readdirSync(made.rootfs).toSorted(), ['temp', 'temp123', 'temp456'])
      assert.equal(readFileSync(join(made.rootfs, 'temp'), 'utf8'), 'bar 456')
      world.loam('destroy', made.containerId)
    }
    const layers = readdirSync(join(world.root, 'layers'), { recursive: true, encoding: 'utf8' })
    rmSync(join(world.root, 'layers', layers.find((path) => path.endsWith('layer.tar')) ?? ''))
    const healed = provision(world, 'abc', `--docker_registry=${images}`, '--backend', 'copy')
    assert.equal(readFileSync(join(healed.rootfs, 'temp'), 'utf8'), 'bar 456')
    rmSync(archive)
    assert.equal(world.loam('provision', `--docker_registry=${images}`, 'abc').status, 0)
  })

  test('any plain name is a layer id in an old archive, and an id that cannot be a file name is refused', () => {
    using world = new World()
    const good = ['1', 'base', 'v1.2_x-Y', '.hidden', 'x'.repeat(128), 'sha256_'.padEnd(60, '0')]
    for (const [index, id] of good.entries()) {
      const folder = join(world.folder, `good-${index}`)
      writeV1(folder, { app: { latest: 'top' } }, [
        { id, entries: BASE },
        { id: 'top', parent: id, entries: TOP },
      ])
      assert.equal(world.loam('pull', `docker-archive:${folder}`).status, 0, id)
    }
    const bad = ['.', '..', '...', '../x', 'a/b', '/a', 'x'.repeat(129), 'ä', 'a b', 'a\\b', 'a\0b']
    for (const [index, id] of bad.entries()) {
      const folder = join(world.folder, `bad-id-${index}`)
      writeV1(folder, { app: { latest: 'top' } }, [{ id: 'top', parent: id }])
      assert.match(failureOf(world, 'pull', `docker-archive:${folder}`).message, /is not a layer id/, id)
      writeV1(`${folder}-top`, { app: { latest: id } }, [])
      assert.match(failureOf(world, 'pull', `docker-archive:${folder}-top`).message, /is not a layer id/, id)
    }
  })

  test("an unpacked layer of Mesos's local store is a layer, too", () => {
    using world = new World()
    const folder = join(world.folder, 'saved')
    writeV1(folder, { app: { latest: ID('b') } }, CHAIN)
    for (const id of [ID('a'), ID('b')]) {
      mkdirSync(join(folder, id, 'rootfs'))
      must('tar', '-C', join(folder, id, 'rootfs'), '-xf', join(folder, id, 'layer.tar'))
      rmSync(join(folder, id, 'layer.tar'))
    }
    assert.equal(world.loam('put', folder, 'app').status, 0)
    assert.deepEqual(readdirSync(provision(world, 'app', '--backend', 'copy').rootfs).toSorted(), FILES)
    rmSync(join(folder, ID('a'), 'rootfs'), { recursive: true })
    symlinkSync('/', join(folder, ID('a'), 'rootfs'))
    assert.match(failureOf(world, 'put', folder, 'other').message, /it has no a+\/layer\.tar/)
  })

  test('an invalid archive of before Docker 1.10 is reported, and nothing of it is left', () => {
    using world = new World()
    const cases: readonly (readonly [string, unknown, readonly V1Layer[], string])[] = [
      [
        'a cycle',
        { app: { latest: ID('a') } },
        [
          { id: ID('a'), parent: ID('b') },
          { id: ID('b'), parent: ID('a') },
        ],
        'SOURCE_INVALID',
      ],
      [
        'a parent that is not there',
        { app: { latest: ID('a') } },
        [{ id: ID('a'), parent: ID('b') }],
        'SOURCE_INVALID',
      ],
      ['an id that leads out', { app: { latest: '../../etc' } }, [], 'SOURCE_INVALID'],
      [
        'a parent that leads out',
        { app: { latest: ID('a') } },
        [{ id: ID('a'), parent: '../b' }],
        'DOCUMENT_INVALID',
      ],
      ['a tag that is a list', { app: ['x'] }, [], 'SOURCE_INVALID'],
      ['tags that are a text', { app: 'x' }, [], 'DOCUMENT_INVALID'],
      ['no image', {}, [], 'IMAGE_NOT_FOUND'],
      [
        'a hostile layer',
        { app: { latest: ID('a') } },
        [{ id: ID('a'), entries: [{ name: '../x', data: '' }] }],
        'TAR_UNSAFE',
      ],
    ]
    for (const [index, [what, repositories, layers, code]] of cases.entries()) {
      const folder = join(world.folder, `bad-${index}`)
      writeV1(folder, repositories, layers)
      assert.equal(failureOf(world, 'pull', `docker-archive:${folder}`).code, code, what)
    }
    const folder = join(world.folder, 'other-id')
    writeV1(folder, { app: { latest: ID('a') } }, [{ id: ID('a') }])
    copyFileSync(join(folder, ID('a'), 'json'), join(folder, 'json'))
    writeFileSync(join(folder, ID('a'), 'json'), JSON.stringify({ id: ID('c') }))
    assert.equal(failureOf(world, 'pull', `docker-archive:${folder}`).code, 'SOURCE_INVALID')
    assert.equal(failureOf(world, 'pull', `docker-archive:${folder}:other`).code, 'IMAGE_NOT_FOUND')
  })

  test('a docker-archive of skopeo has the tree that skopeo was given', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { x: buildImage({ tars: [buildTar(BASE), buildTar(TOP)] }) })
    const archive = join(world.folder, 'by-skopeo.tar')
    must('skopeo', 'copy', '--quiet', `oci:${layout}:x`, `docker-archive:${archive}:team/app:1`)
    const own = provision(world, `oci:${layout}:x`)
    const theirs = provision(world, `docker-archive:${archive}`)
    assert.deepEqual(listTree(theirs.rootfs), listTree(own.rootfs))
  })

  test('a docker-archive with layers of xz and bzip2 is provisioned in a new store', () => {
    using world = new World()
    const image = buildImage({ tars: [buildTar(BASE), buildTar(TOP)] })
    const manifest = [{ Config: 'c.json', RepoTags: ['team/app:1'], Layers: ['1.tar', '2.tar'] }]
    const archive = join(world.folder, 'packed.tar')
    const entries = [
      { name: '1.tar', data: readFileSync(packedBy('xz', world.folder, buildTar(BASE))) },
      { name: '2.tar', data: readFileSync(packedBy('bzip2', world.folder, buildTar(TOP))) },
      { name: 'c.json', data: image.config.bytes },
      { name: 'manifest.json', data: JSON.stringify(manifest) },
    ]
    writeFileSync(archive, buildTar(entries))
    const { rootfs } = provision(world, `docker-archive:${archive}`)
    assert.deepEqual(readdirSync(rootfs).toSorted(), FILES)
  })
})

/** Signs a schema 1 manifest as Docker did (libtrust). */
function signSchema1(manifest: object): { body: Buffer; payload: Buffer } {
  const payload = Buffer.from(JSON.stringify(manifest, undefined, 3))
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const formatLength = payload.length - 2
  const head = Buffer.from(
    JSON.stringify({ formatLength, formatTail: payload.subarray(formatLength).toString('base64url') }),
  ).toString('base64url')
  const signature = sign('sha256', Buffer.from(`${head}.${payload.toString('base64url')}`), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
  })
  const signatures = [
    {
      header: { jwk: publicKey.export({ format: 'jwk' }), alg: 'ES256' },
      signature: signature.toString('base64url'),
      protected: head,
    },
  ]
  const body = Buffer.concat([
    payload.subarray(0, formatLength),
    Buffer.from(`,\n   "signatures": ${JSON.stringify(signatures)}\n}`),
  ])
  return { body, payload }
}

describe('schema 1', () => {
  test('a schema 1 image is served by a real registry and becomes the image that was pushed', async () => {
    using world = new World()
    using registry = await DebianRegistry.start({ rest: { compatibility: { schema1: { enabled: true } } } })
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, {
      x: buildImage({
        tars: [buildTar(BASE), buildTar(TOP)],
        config: { Cmd: ['/top'], WorkingDir: '/dir' },
        withHistory: true,
      }),
    })
    must(
      'skopeo',
      'copy',
      '--quiet',
      '--format',
      'v2s1',
      '--dest-tls-verify=false',
      `oci:${layout}:x`,
      `docker://${registry.host}/app:1`,
    )
    const made = provision(world, `${registry.host}/app:1`)
    assert.deepEqual(listTree(made.rootfs), listTree(provision(world, `oci:${layout}:x`).rootfs))
    assert.deepEqual(made.image.dockerManifest.config.Cmd, ['/top'])
    assert.equal(made.image.dockerManifest.config.WorkingDir, '/dir')
    // From the store, and by the digest that the registry knows.
    const digest = must(
      'skopeo',
      'inspect',
      '--tls-verify=false',
      '--format',
      '{{.Digest}}',
      `docker://${registry.host}/app:1`,
    ).trim()
    assert.equal(world.loam('pull', `${registry.host}/app@${digest}`).status, 0)
    assert.equal(world.loam('provision', `${registry.host}/app:1`).status, 0)
  })

  test('ids and signatures of a schema 1 image have to be valid, and its digest is that of the signed payload', async () => {
    await using registry = await RegistryServer.start()
    using world = new World()
    const layers = [BASE, TOP].map((entries) => gzipSync(buildTar(entries)))
    const blobSums = layers.map((bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`)
    for (const [index, bytes] of layers.entries()) registry.setBlob(blobSums[index] ?? '', bytes)
    const history = (...entries: object[]) =>
      entries.map((entry) => ({ v1Compatibility: JSON.stringify(entry) }))
    const good = {
      schemaVersion: 1,
      name: 'app',
      tag: '1',
      architecture: 'amd64',
      fsLayers: [{ blobSum: blobSums[1] }, { blobSum: blobSums[0] }, { blobSum: blobSums[0] }],
      history: history(
        { id: ID('c'), parent: ID('b'), os: 'linux', architecture: 'amd64', config: { Cmd: ['/top'] } },
        { id: ID('b'), parent: ID('a') },
        { id: ID('a'), throwaway: true },
      ),
    }
    const serve = (
      tag: string,
      bytes: Buffer,
      type = 'application/vnd.docker.distribution.manifest.v1+prettyjws',
    ) => {
      const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
      registry.addManifest('app', tag, { digest: digest as never, bytes }, type)
    }
    const { body, payload } = signSchema1(good)
    serve('signed', body)
    serve('plain', Buffer.from(JSON.stringify(good)), 'application/json')
    const digest = `sha256:${createHash('sha256').update(payload).digest('hex')}`
    registry.addManifest(
      'app',
      digest,
      { digest: digest as never, bytes: body },
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
    )
    for (const name of ['app:signed', 'app:plain', `app@${digest}`]) {
      const result = await world.loamAsync('--json', 'provision', `${registry.host}/${name}`)
      assert.equal(result.status, 0, result.stderr)
      assert.deepEqual(readdirSync(JSON.parse(result.stdout).rootfs).toSorted(), FILES)
    }
    // Mesos accepts any id, and layers without one: their order counts.
    for (const [index, entries] of [
      [
        { id: '3', parent: '2', os: 'linux' },
        { id: '2', parent: '1' },
        { id: '1', throwaway: true },
      ],
      [{ os: 'linux' }, {}, { throwaway: true }],
      [{ id: 'top', parent: null }, {}, { id: null, throwaway: true }],
    ].entries()) {
      serve(`ids-${index}`, Buffer.from(JSON.stringify({ ...good, history: history(...entries) })))
      const result = await world.loamAsync('--json', 'provision', `${registry.host}/app:ids-${index}`)
      assert.equal(result.status, 0, result.stderr)
      assert.deepEqual(readdirSync(JSON.parse(result.stdout).rootfs).toSorted(), FILES)
    }
    const bad: readonly (readonly [string, Buffer])[] = [
      [
        'an id that leads out',
        Buffer.from(
          JSON.stringify({ ...good, history: history({ id: '../../x' }, { id: ID('b') }, { id: ID('a') }) }),
        ),
      ],
      ['no history', Buffer.from(JSON.stringify({ ...good, history: [] }))],
      ['no layers', Buffer.from(JSON.stringify({ ...good, fsLayers: [] }))],
      ['another length', Buffer.from(JSON.stringify({ ...good, fsLayers: good.fsLayers.slice(1) }))],
      [
        'layers that do not stand on each other',
        Buffer.from(
          JSON.stringify({ ...good, history: history({ id: ID('c') }, { id: ID('b') }, { id: ID('a') }) }),
        ),
      ],
      [
        'a blob that is no digest',
        Buffer.from(
          JSON.stringify({ ...good, fsLayers: good.fsLayers.map(() => ({ blobSum: 'sha256:../../x' })) }),
        ),
      ],
      [
        'a layer that comes again',
        Buffer.from(
          JSON.stringify({
            ...good,
            history: history(
              { id: ID('a'), parent: ID('b') },
              { id: ID('b'), parent: ID('a') },
              { id: ID('a') },
            ),
          }),
        ),
      ],
      [
        'history that is no JSON',
        Buffer.from(JSON.stringify({ ...good, history: good.history.map(() => ({ v1Compatibility: '{' })) })),
      ],
      [
        'a signature that does not hold',
        Buffer.from(body.toString('utf8').replace('"/top', '"/bad').replace('\\"/top', '\\"/bad')),
      ],
      [
        'a signature for more than there is',
        Buffer.from(
          body
            .toString('utf8')
            .replace(
              /"protected":"[^"]+"/,
              `"protected":"${Buffer.from('{"formatLength":999999,"formatTail":""}').toString('base64url')}"`,
            ),
        ),
      ],
    ]
    for (const [index, [what, bytes]] of bad.entries()) {
      serve(`bad-${index}`, bytes)
      const result = await world.loamAsync('--json', 'pull', `${registry.host}/app:bad-${index}`)
      assert.equal(JSON.parse(result.stderr).error.code, 'DOCUMENT_INVALID', what)
    }
    assert.deepEqual(world.leftovers(), [])
  })
})

describe('docker_registry', () => {
  test('docker_registry may be a directory of archives, in every form of a path, and no other location is asked', () => {
    using world = new World()
    const folder = join(world.folder, 'images')
    const save = (name: string, repository: string, tag: string) => {
      const saved = join(world.folder, 'saved', name)
      writeV1(saved, { [repository]: { [tag]: ID('b') } }, CHAIN)
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      must('tar', '-cf', join(folder, name), '-C', saved, '.')
    }
    save('busybox.tar', 'busybox', 'latest')
    save('debian:12.tar', 'debian', '12')
    save('team/app:1.tar', 'team/app', '1')
    save('registry.example/team/far:1.tar', 'registry.example/team/far', '1')
    for (const [registry, image] of [
      [folder, 'busybox'],
      [`file://${folder}`, 'busybox:latest'],
      [folder, 'debian:12'],
      [folder, 'team/app:1'],
      [folder, 'registry.example/team/far:1'],
    ] as const) {
      using other = new World()
      assert.deepEqual(
        readdirSync(provision(other, image, `--docker_registry=${registry}`).rootfs).toSorted(),
        FILES,
        image,
      )
    }
    const missing = failureOf(world, `--docker_registry=${folder}`, 'pull', 'nothing:1')
    assert.equal(missing.code, 'IMAGE_NOT_FOUND')
    assert.match(missing.hint ?? '', /nothing:1\.tar/)
  })

  test('an archive that is named by a digest has to have it', () => {
    using world = new World()
    const folder = join(world.folder, 'images')
    mkdirSync(join(folder, 'team'), { recursive: true })
    const layout = join(world.folder, 'layout')
    const image = buildImage({ tars: [buildTar([{ name: 'file', data: '' }])] })
    writeOciLayout(layout, { x: image })
    const wrong = `sha256:${'0'.repeat(64)}`
    for (const digest of [image.manifest.digest, wrong])
      must('tar', '-cf', join(folder, `team/app@${digest}.tar`), '-C', layout, '.')
    const registry = `--docker_registry=${folder}`
    assert.deepEqual(readdirSync(provision(world, `team/app@${image.manifest.digest}`, registry).rootfs), [
      'file',
    ])
    const other = JSON.parse(world.loam('--json', 'pull', registry, `team/app@${wrong}`).stderr).error
    assert.equal(other.code, 'DIGEST_MISMATCH')
  })

  test('locations of docker_registry are tried in order, and a registry is the default of names without a host', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    registry.addImage('app', '1', buildImage({ tars: [buildTar([{ name: 'remote', data: '' }])] }))
    registry.addImage('both', '1', buildImage({ tars: [buildTar([{ name: 'remote', data: '' }])] }))
    const folder = join(world.folder, 'images')
    writeV1(join(world.folder, 'saved'), { both: { '1': ID('b') } }, CHAIN)
    mkdirSync(folder)
    must('tar', '-cf', join(folder, 'both:1.tar'), '-C', join(world.folder, 'saved'), '.')
    const provisionIn = async (order: string, image: string) => {
      using own = new World()
      const result = await own.loamAsync('--json', 'provision', `--docker_registry=${order}`, image)
      assert.equal(result.status, 0, result.stderr)
      return readdirSync(JSON.parse(result.stdout).rootfs).toSorted()
    }
    const address = `http://${registry.host}`
    assert.deepEqual(await provisionIn(`${folder},${address}`, 'app:1'), ['remote'])
    assert.deepEqual(await provisionIn(`${folder},${address}`, 'both:1'), FILES)
    assert.deepEqual(await provisionIn(`${address},${folder}`, 'both:1'), ['remote'])
    assert.equal(registry.requests.includes('GET /v2/app/manifests/1'), true)
    const nowhere = await world.loamAsync(
      '--json',
      'pull',
      `--docker_registry=${folder},${address}`,
      'nowhere:1',
    )
    const { code, message } = JSON.parse(nowhere.stderr).error
    assert.equal(code, 'IMAGE_NOT_FOUND')
    assert.ok(message.includes(folder) && message.includes(registry.host), message)
  })

  test('an hdfs:// address is read by the hadoop command, named by its home or found in PATH', () => {
    using world = new World()
    const home = join(world.folder, 'hadoop')
    const remote = join(world.folder, 'remote')
    mkdirSync(join(home, 'bin'), { recursive: true })
    const saved = join(world.folder, 'saved')
    writeV1(saved, { busybox: { latest: ID('b') } }, CHAIN)
    mkdirSync(join(remote, 'images'), { recursive: true })
    must('tar', '-cf', join(remote, 'images/busybox.tar'), '-C', saved, '.')
    // The same as `hadoop fs -copyToLocal`, with a folder for the file system.
    writeFileSync(
      join(home, 'bin/hadoop'),
      `#!/bin/sh
[ "$1 $2" = "fs -copyToLocal" ] || exit 9
path=$(echo "$3" | sed 's,^hdfs://[^/]*,,')
[ -f "${remote}$path" ] || { echo "copyToLocal: \\\`$3': No such file or directory" >&2; exit 1; }
cp "${remote}$path" "$4"
`,
    )
    chmodSync(join(home, 'bin/hadoop'), 0o755)
    for (const registry of ['hdfs://localhost:8020/images', 'hdfs:///images']) {
      using other = new World()
      const flags = [`--docker_registry=${registry}`, '--hadoop_home', home]
      assert.deepEqual(readdirSync(provision(other, 'busybox', ...flags).rootfs).toSorted(), FILES)
    }
    const missing = failureOf(
      world,
      '--docker_registry=hdfs:///images',
      '--hadoop_home',
      home,
      'pull',
      'other',
    )
    assert.equal(missing.code, 'IMAGE_NOT_FOUND')
    assert.match(
      failureOf(world, '--docker_registry=hdfs:///images', 'pull', 'busybox').message,
      /hadoop command was not found/,
    )
    const env = { PATH: `${join(home, 'bin')}:${process.env['PATH']}` }
    const found = world.loamWith(env, 'pull', '--docker_registry=hdfs:///images', 'busybox')
    assert.equal(found.status, 0, found.stderr)
  })

  test('credentials of one request count for it alone', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    registry.addImage('app', '1', buildImage({ tars: [buildTar([{ name: 'file', data: '' }])] }))
    registry.intercept = (request, response) => {
      if (request.headers.authorization === `Basic ${Buffer.from('u:p').toString('base64')}`) return false
      response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end()
      return true
    }
    const auth = Buffer.from('u:p').toString('base64')
    const config = Buffer.from(JSON.stringify({ auths: { [registry.host]: { auth } } })).toString('base64')
    const { openLoam } = await import('../../src/index.ts')
    await using loam = await openLoam({
      file: null,
      flags: { root: world.root, state: join(world.folder, 'state') },
    })
    const name = `${registry.host}/app:1`
    await assert.rejects(loam.pull(name), /401/)
    const secret = { type: 'VALUE', value: { data: config } }
    const pulled = await loam.pull({ type: 'DOCKER', docker: { name, config: secret } })
    assert.equal(pulled.name, name)
    const requests = registry.requests.length
    await loam.provision({ type: 'docker', docker: { name } }, { id: 'cached' })
    assert.equal(registry.requests.length, requests)
    // cached: false asks again, and without the credentials.
    await assert.rejects(
      loam.provision({ type: 'docker', docker: { name }, cached: false }, { id: 'fresh' }),
      /401/,
    )
    await assert.rejects(
      loam.pull({ type: 'docker', docker: { name, config: { reference: { name: 'vault' } } } }),
      /Loam does not resolve/,
    )
    await loam.destroy('cached')
  })
})

describe('commands', () => {
  const BUSYBOX = readFileSync('/bin/busybox')
  const shell = [{ name: 'bin/' }, { name: 'bin/sh', data: BUSYBOX, mode: 0o755 }]

  /** A folder of archives with one image, of one config. */
  function archiveOf(world: World, config: Record<string, unknown>): string {
    const folder = join(
      world.folder,
      `images-${createHash('sha256').update(JSON.stringify(config)).digest('hex').slice(0, 8)}`,
    )
    const saved = `${folder}-saved`
    writeV1(saved, { app: { latest: ID('b') } }, [
      { id: ID('a'), entries: shell },
      { id: ID('b'), parent: ID('a'), config },
    ])
    mkdirSync(folder)
    must('tar', '-cf', join(folder, 'app.tar'), '-C', saved, '.')
    return `--docker_registry=${folder}`
  }

  function run(world: World, ...args: string[]): string {
    const { status, stdout, stderr } = world.loam('run', ...args)
    assert.equal(status, 0, stderr)
    assert.deepEqual(world.mounts(), [])
    return stdout
  }

  describe('an image in a directory of archives', () => {
    const shellLine = ['/bin/sh', '-c', 'echo default $A; pwd', 'sh']
    /** A store for each of two equivalent configs, and the directory of archives with its image. */
    const cases: { readonly world: World; readonly registry: string }[] = []
    setUp((held) => {
      const configs = [{ Cmd: shellLine }, { Entrypoint: shellLine.slice(0, 2), Cmd: shellLine.slice(2) }]
      for (const config of configs) {
        const world = held.use(new World())
        const registry = archiveOf(world, { ...config, Env: ['A=b', 'invalid', 'A=c'], WorkingDir: '/bin' })
        cases.push({ world, registry })
      }
    })

    test('an image in a directory of archives runs its own command, in its folder and environment', () => {
      for (const { world, registry } of cases) {
        assert.equal(run(world, registry, 'app'), 'default c\n/bin\n')
        assert.equal(run(world, registry, '--env', 'A=mine', 'app'), 'default mine\n/bin\n')
      }
    })

    test("the user's words replace the command of an image in a directory of archives", () => {
      for (const { world, registry } of cases) {
        assert.equal(run(world, registry, '--shell', 'echo line', 'app'), 'line\n')
        assert.equal(run(world, registry, '--entrypoint', '/bin/sh', 'app', '-c', 'echo other'), 'other\n')
      }
    })

    test('an image in a directory of archives runs its own command in a container that is nested in another', () => {
      for (const { world, registry } of cases) {
        assert.equal(world.loam('provision', '--id', 'parent', registry, 'app').status, 0)
        const flags = ['--id', 'parent/child', registry, '--command-info', '{"shell":false}']
        const nested = world.loam('run', ...flags, 'app')
        assert.equal(nested.stdout, 'default c\n/bin\n', nested.stderr)
        assert.equal(world.loam('destroy', 'parent').status, 0)
      }
    })

    test('with docker_ignore_runtime the config has no effect, so that without a command there is nothing to run', () => {
      for (const { world, registry } of cases) {
        const ignoring = [registry, '--docker_ignore_runtime'] as const
        assert.equal(run(world, ...ignoring, '--shell', 'echo [$A]; pwd', 'app'), '[]\n/\n')
        assert.equal(world.loam('run', ...ignoring, 'app').status, 127)
      }
    })
  })

  describe('a CommandInfo of Mesos', () => {
    let world: World
    let image = ''
    setUp((held) => {
      world = held.use(new World())
      const layout = join(world.folder, 'layout')
      const tars = [
        buildTar([
          { name: 'bin', type: 'directory' },
          { name: 'bin/busybox', data: BUSYBOX, mode: 0o755 },
          { name: 'bin/sh', type: 'symlink', linkName: 'busybox' },
          { name: 'locked', data: 'x', mode: 0o644 },
        ]),
      ]
      writeOciLayout(layout, {
        x: buildImage({ tars, config: { Entrypoint: ['/bin/echo'], User: '65534' } }),
      })
      image = `oci:${layout}:x`
    })
    const runInfo = (info: object, ...flags: readonly string[]) =>
      world.loam('run', ...flags, '--command-info', JSON.stringify({ shell: false, ...info }), image)
    const said = (info: object, ...flags: readonly string[]) => {
      const { stdout, stderr } = runInfo(info, ...flags)
      return stdout === '' ? stderr : stdout
    }

    test('a CommandInfo of Mesos has its arguments as argv, whatever they begin with', () => {
      // execlp(value, arguments(0), arguments(1), …) of mesos.proto: busybox chooses its program by its name.
      assert.equal(said({ value: '/bin/sh', arguments: ['sh', '-c', 'echo hi $0', 'zero'] }), 'hi zero\n')
      assert.equal(said({ value: '/bin/busybox', arguments: ['echo', 'a  b', ''] }), 'a  b \n')
      assert.equal(
        said({ value: 'busybox', arguments: ['sh', '-c', 'echo $0 $USER_IS', '-sh'] }, '--env', 'USER_IS=me'),
        '-sh me\n',
      )
      assert.equal(said({ value: 'busybox', arguments: ['busybox', 'echo', 'same'] }), 'same\n')
    })

    test("a CommandInfo of Mesos runs as the image's user, or as its own, also in a read-only root filesystem", () => {
      assert.equal(said({ value: 'busybox', arguments: ['id', '-u'] }, '--read-only'), '65534\n')
      assert.equal(said({ value: 'busybox', arguments: ['id', '-u'], user: '12' }), '12\n')
    })

    test('the environment of a CommandInfo of Mesos counts, and --env before it', () => {
      const variables = [
        { name: 'A', value: 'a' },
        { name: 'B', value: 'b' },
      ]
      const info = { value: 'busybox', arguments: ['sh', '-c', 'echo $A $B'], environment: { variables } }
      assert.equal(said(info, '--env', 'B=mine'), 'a mine\n')
    })

    test('a CommandInfo of Mesos ends with the status of its program, with 127 if it is missing, and with 126 if it cannot be run', () => {
      assert.equal(runInfo({ value: 'busybox', arguments: ['sh', '-c', 'exit 7'] }).status, 7)
      assert.equal(runInfo({ value: '/nowhere', arguments: ['x'] }).status, 127)
      assert.equal(runInfo({ value: '/locked', arguments: ['x'] }).status, 126)
    })

    test('a CommandInfo of Mesos with another name for argv leaves nothing of Loam in the root filesystem', () => {
      assert.equal(
        said({ value: 'busybox', arguments: ['ls', '-A', '/'] }),
        'bin\ndev\netc\nlocked\nproc\nsys\n',
      )
    })

    test('a CommandInfo of Mesos with another name for argv is refused if /dev is another mount', () => {
      const { stderr } = runInfo(
        { value: 'busybox', arguments: ['sh'] },
        '--mount',
        `type=bind,source=${world.folder},target=/dev`,
      )
      assert.match(stderr, /another name where \/dev is mounted/)
    })
  })

  test('an image of one program and nothing else runs it', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, {
      x: buildImage({
        tars: [buildTar([{ name: 'echo', data: BUSYBOX, mode: 0o755 }])],
        config: { Entrypoint: ['/echo'], Cmd: ['hello'] },
      }),
    })
    assert.equal(run(world, `oci:${layout}:x`), 'hello\n')
    assert.equal(run(world, `oci:${layout}:x`, 'world'), 'world\n')
  })

  test('an image config without a config object runs the command that is given', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const image = buildImage({ tars: [buildTar(shell)] })
    const bytes = Buffer.from(JSON.stringify({ ...JSON.parse(image.config.bytes.toString()), config: null }))
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}` as never
    const manifest = JSON.parse(image.manifest.bytes.toString())
    const manifestBytes = Buffer.from(
      JSON.stringify({ ...manifest, config: { ...manifest.config, digest, size: bytes.length } }),
    )
    const manifestDigest = `sha256:${createHash('sha256').update(manifestBytes).digest('hex')}` as never
    writeOciLayout(layout, {
      x: { ...image, config: { digest, bytes }, manifest: { digest: manifestDigest, bytes: manifestBytes } },
    })
    assert.equal(run(world, `oci:${layout}:x`, '/bin/sh', '-c', 'echo told'), 'told\n')
    assert.equal(world.loam('run', `oci:${layout}:x`).status, 127)
  })

  test('a container has devices, and neither kernel memory nor firmware', () => {
    using world = new World()
    const registry = archiveOf(world, {})
    const line =
      'for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done; [ -L /dev/fd ] && [ -d /dev/pts ] && [ -d /dev/shm ] && echo devices; head -c 1 /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/hostname'
    const { stdout, stderr } = world.loam('run', registry, '--shell', line, 'app')
    assert.equal(stdout, 'devices\n0\n0\n', stderr)
    assert.match(stderr, /Read-only file system/)
  })

  test('archives and ACIs are put from an address, and a missing one is reported', async () => {
    using world = new World()
    await using server = await RegistryServer.start()
    archiveOf(world, {})
    const archive = readFileSync(
      join(
        world.folder,
        readdirSync(world.folder).find((name) => /^images-[0-9a-f]+$/.test(name)) ?? '',
        'app.tar',
      ),
    )
    let cuts = 0
    server.intercept = (request, response) => {
      if (request.url !== '/app.tar') return false
      // Cut once: the transfer resumes from there.
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
      const end = cuts === 0 ? 10_000 : archive.length
      cuts += 1
      response.writeHead(start === 0 ? 200 : 206, {
        'content-length': archive.length - start,
        ...(start === 0 ? {} : { 'content-range': `bytes ${start}-${archive.length - 1}/${archive.length}` }),
      })
      response.write(archive.subarray(start, end), () => {
        if (end === archive.length) response.end()
        else response.destroy()
      })
      return true
    }
    const put = await world.loamAsync('put', `http://${server.host}/app.tar`, 'registry.example/app:7')
    assert.equal(put.status, 0, put.stderr)
    assert.equal(cuts, 2)
    assert.equal(run(world, '--shell', 'echo put', 'registry.example/app:7'), 'put\n')
    const missing = await world.loamAsync('--json', 'put', `http://${server.host}/nothing.tar`, 'x')
    assert.equal(JSON.parse(missing.stderr).error.code, 'IMAGE_NOT_FOUND')
    const scheme = await world.loamAsync('--json', 'put', `file://elsewhere/x.tar`, 'x')
    assert.equal(JSON.parse(scheme.stderr).error.code, 'SOURCE_INVALID')
    assert.deepEqual(world.leftovers(), [])
  })
})
