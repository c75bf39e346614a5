import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import {
  appcPlatform,
  appcPlatformLabels,
  compareAppcVersions,
  formatAppcName,
  isAppcImageId,
  isAppcLatest,
  createAppcName,
  parseAppcManifest,
  readAppcManifest,
  parseAppcName,
  pinOf,
  suitsAppcName,
} from './index.ts'

const LINUX = { os: 'linux', architecture: 'amd64', variant: undefined }
const ID = `sha512-${'a'.repeat(128)}`
const parse = (manifest: Record<string, unknown>) =>
  parseAppcManifest(
    Buffer.from(
      JSON.stringify({ acKind: 'ImageManifest', acVersion: '0.8.11', name: 'example.com/x', ...manifest }),
    ),
    'm',
  )

describe('Appc manifests', () => {
  test('an Appc manifest gives name, labels, dependencies and command', () => {
    const manifest = parse({
      labels: [{ name: 'version', value: '1' }],
      annotations: [{ name: 'created', value: '2020-01-02T03:04:05Z' }],
      dependencies: [{ imageName: 'example.com/base', imageID: ID }],
      app: {
        exec: ['/x', 'a'],
        user: '0',
        group: '5',
        environment: [{ name: 'A', value: 'b=c' }],
        workingDirectory: '/w',
        ports: [{ name: 'http', protocol: 'tcp', port: 80 }],
        mountPoints: [{ name: 'data', path: '/data' }],
      },
    })
    assert.deepEqual(manifest.labels, { version: '1' })
    assert.deepEqual(manifest.dependencies, [{ name: 'example.com/base', id: ID, labels: {} }])
    assert.equal(manifest.created, '2020-01-02T03:04:05Z')
    assert.deepEqual(manifest.run, {
      user: '0:5',
      env: ['A=b=c'],
      entrypoint: ['/x'],
      cmd: ['a'],
      workingDir: '/w',
      stopSignal: undefined,
      volumes: ['/data'],
      exposedPorts: ['80/tcp'],
      labels: {},
    })
  })

  test('an Appc manifest may have no app, a null exec and unknown fields, and another kind is refused', () => {
    assert.equal(parse({}).run, undefined)
    assert.deepEqual(parse({ app: { exec: null, user: '0', group: '0' } }).run?.entrypoint, [])
    assert.equal(parse({ colour: { red: 1 } }).name, 'example.com/x')
    assert.throws(
      () => parse({ acKind: 'PodManifest' }),
      (error) => isLoamError(error, 'DOCUMENT_INVALID'),
    )
  })
})

describe('manifests that Mesos accepts', () => {
  /** The manifest of AppcStoreTest and AppcSpecTest of Mesos: its date is a number of seconds. */
  const OF_MESOS = {
    acKind: 'ImageManifest',
    acVersion: '0.6.1',
    name: 'foo.com/bar',
    labels: [
      { name: 'version', value: '1.0.0' },
      { name: 'arch', value: 'amd64' },
      { name: 'os', value: 'linux' },
    ],
    annotations: [{ name: 'created', value: '1438983392' }],
  }
  const read = (manifest: object) => readAppcManifest(Buffer.from(JSON.stringify(manifest)), 'manifest')

  test('an Appc manifest may breach the rules of the specification, with a note, but not those of Mesos', () => {
    const { manifest, breach } = read(OF_MESOS)
    assert.deepEqual(
      [manifest.name, manifest.labels, manifest.created],
      ['foo.com/bar', { version: '1.0.0', arch: 'amd64', os: 'linux' }, undefined],
    )
    assert.match(breach ?? '', /annotations: has an invalid date in "created"/)
    assert.equal(read({ ...OF_MESOS, annotations: [] }).breach, undefined)
    const taken: readonly object[] = [
      { app: { exec: ['/f', 'a'] } },
      { app: { exec: null, user: '0' } },
      { app: { exec: ['/f'], workingDirectory: 'x', environment: [{ name: '1', value: '' }], ports: 'x' } },
      { acVersion: '1' },
      {
        labels: [
          { name: 'X Y', value: '' },
          { name: 'os', value: 'plan9' },
        ],
      },
      { dependencies: [{ imageName: 'A', imageID: 'md5-1' }] },
    ]
    for (const more of taken)
      assert.notEqual(read({ ...OF_MESOS, ...more }).breach, undefined, JSON.stringify(more))
    const refused: readonly object[] = [
      { acKind: 'PodManifest' },
      { acKind: undefined },
      { acVersion: undefined },
      { acVersion: 1 },
      { name: undefined },
      { name: '' },
      { name: 7 },
      { labels: 'x' },
      { labels: [{ name: 'x' }] },
      { annotations: { created: '1' } },
      { app: [] },
      { app: { exec: '/f' } },
      { dependencies: [{}] },
      { pathWhitelist: '/x' },
    ]
    for (const more of refused)
      assert.throws(
        () => read({ ...OF_MESOS, ...more }),
        (error) => isLoamError(error, 'DOCUMENT_INVALID'),
        JSON.stringify(more),
      )
  })

  test("an Appc manifest without user and group runs as the runtime's default", () => {
    const runOf = (app: object) => read({ ...OF_MESOS, app }).manifest.run
    assert.equal(runOf({ exec: ['/f'] })?.user, '')
    assert.equal(runOf({ exec: ['/f'], user: '5' })?.user, '5')
    assert.equal(runOf({ exec: ['/f'], user: '5', group: '6' })?.user, '5:6')
    assert.deepEqual(runOf({ exec: ['/f'], mountPoints: [{ name: 'Data', path: '/d' }] })?.volumes, ['/d'])
  })
})

describe('versions of Appc images', () => {
  test('versions of Appc images are compared by their numbers, and a pre-release is below its version', () => {
    const rising = [
      undefined,
      'edge',
      'stable',
      '0.9',
      '1.0.0-alpha.2',
      '1.0.0-alpha.10',
      '1.0.0-rc1',
      '1.0',
      '1.0.1',
      'v1.2',
      '1.9.0',
      '1.10rc2',
      '1.10.0',
      '2.0~beta',
      '2',
      '20200102',
      '20200102.2',
    ]
    for (const [index, version] of rising.entries())
      for (const [other, otherVersion] of rising.entries())
        assert.equal(
          Math.sign(compareAppcVersions(version, otherVersion)),
          Math.sign(index - other),
          `${version} and ${otherVersion}`,
        )
    assert.equal(compareAppcVersions('1.0', '1.0.0'), 0)
    assert.equal(compareAppcVersions('1.0.0+a', '1.0.0+b'), 0)
  })
})

describe('Appc names', () => {
  test('Appc names are read in all their spellings, and have version, os and arch', () => {
    const full = 'appc://example.com/x,arch=amd64,os=linux,version=1.0'
    for (const text of [
      'appc://example.com/x:1.0',
      'example.com/x,version=1.0',
      'appc://example.com/x,os=linux,version=1.0,arch=amd64',
    ])
      assert.equal(formatAppcName(parseAppcName(text, LINUX)), full)
    const latest = parseAppcName('example.com/x', LINUX)
    assert.deepEqual([latest.labels['version'], isAppcLatest(latest)], ['latest', true])
    assert.equal(isAppcLatest(parseAppcName(`example.com/x,id=${ID}`, LINUX)), false)
    assert.equal(formatAppcName(parseAppcName(`${full},id=${ID}`, LINUX)), `${full},id=${ID}`)
    for (const bad of [
      '',
      'A',
      'a b',
      'a/',
      '/a',
      'a//b',
      'a/../b',
      'a,x',
      'a,name=b',
      'a,x=1,x=2',
      'a,version=',
      'a:1/2',
      'a:..',
      'a,id=md5-1',
      'a,x=a\nb',
    ])
      assert.throws(
        () => parseAppcName(bad, LINUX),
        (error) => isLoamError(error, 'REFERENCE_INVALID'),
        bad,
      )
  })

  test('an Appc name has one id at most, which is not a label', () => {
    const labels = { version: '1', id: ID }
    assert.throws(
      () => createAppcName({ name: 'example.com/x', labels }, LINUX),
      (error) => isLoamError(error, 'REFERENCE_INVALID'),
    )
    // Names of older stores.
    for (const end of ['', ',version=1', `,version=1,id=${ID.replaceAll('a', 'b')}`])
      assert.equal(pinOf(`appc://example.com/x,arch=amd64,id=${ID}${end}`), ID)
  })

  test('an Appc name fits an image by its labels, and an os or arch that the image leaves out fits any', () => {
    const wanted = createAppcName({ name: 'x', labels: { version: '1', channel: 'beta' } }, LINUX)
    assert.equal(suitsAppcName(wanted, { name: 'x', labels: { version: '1', channel: 'beta' } }), true)
    assert.equal(suitsAppcName(wanted, { name: 'x', labels: { version: '1' } }), false)
    assert.equal(
      suitsAppcName(wanted, { name: 'x', labels: { version: '1', channel: 'beta', arch: 'i386' } }),
      false,
    )
    assert.equal(suitsAppcName(wanted, { name: 'y', labels: { version: '1', channel: 'beta' } }), false)
    assert.equal(
      suitsAppcName(createAppcName({ name: 'x', labels: {} }, LINUX), {
        name: 'x',
        labels: { version: '7' },
      }),
      true,
    )
  })

  test('Appc names have words of their own for platforms', () => {
    for (const [architecture, variant, arch] of [
      ['amd64', undefined, 'amd64'],
      ['arm64', undefined, 'aarch64'],
      ['arm', 'v7', 'armv7l'],
      ['386', undefined, 'i386'],
    ] as const) {
      assert.deepEqual(appcPlatformLabels({ os: 'linux', architecture, variant }), { os: 'linux', arch })
      assert.deepEqual(appcPlatform({ os: 'linux', arch }), { os: 'linux', architecture, variant })
    }
    assert.throws(
      () => appcPlatformLabels({ os: 'linux', architecture: 'riscv64', variant: undefined }),
      (error) => isLoamError(error, 'PLATFORM_INVALID'),
    )
    assert.equal(isAppcImageId(ID), true)
    for (const bad of [ID.toUpperCase(), `${ID}0`, 'sha512-', `${ID}\n`, `../${ID}`])
      assert.equal(isAppcImageId(bad), false)
  })
})
