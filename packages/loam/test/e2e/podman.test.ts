// Additional image stores: podman uses the images of Loam, whose layers are mounts of Loam's.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type BuiltImage, buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { busyboxEntries, must, ok, World } from '../support/world.ts'

const NAME = 'docker.io/library/app:1'
const hasPodman = spawnSync('podman', ['--version']).status === 0

function buildApp(marker: string): BuiltImage {
  return buildImage({
    tars: [
      buildTar([
        ...busyboxEntries(['sh', 'cat', 'ls', 'stat', 'test']),
        { name: 'data/', mode: 0o1777 },
        { name: 'data/gone', data: 'x' },
      ]),
      // The directory is not listed: its mode is that of the layer below.
      buildTar([{ name: 'data/.wh.gone' }, { name: 'data/new', data: marker }]),
    ],
  })
}

describe('an additional image store', () => {
  let world: World
  let directory: string

  /** Puts an image under a name and exports it. */
  const exportApp = (marker: string) => {
    const layout = world.path(`layout-${marker}`)
    writeOciLayout(layout, { app: buildApp(marker) })
    ok(world.loam('put', '--replace', `oci:${layout}:app`, NAME))
    ok(world.loam('export', '--format', 'containers-storage', NAME, directory))
  }
  const list = (folder: string, name: string) =>
    JSON.parse(readFileSync(join(directory, folder, name), 'utf8')) as Record<string, unknown>[]

  beforeEach(() => {
    world = new World()
    directory = world.path('images')
  })
  afterEach(() => {
    assert.deepEqual(world.leftovers(), [])
    world[Symbol.dispose]()
  })

  test('podman lists, runs and builds on an image of it, and copies nothing', {
    skip: hasPodman ? false : 'podman is not installed',
  }, () => {
    exportApp('one')
    const folders = ['root', 'runroot', 'tmpdir'].flatMap((name) => [
      `--${name}`,
      world.path(`podman-${name}`),
    ])
    const podman = (...args: readonly string[]) =>
      must('podman', ...folders, '--storage-opt', `additionalimagestore=${directory}`, ...args)
    // The hard limits of this machine may be below podman's defaults.
    const limits = ['nofile', 'nproc'].flatMap((name) => ['--ulimit', `${name}=1024:1024`])
    const run = (image: string, ...command: readonly string[]) =>
      podman('run', '--rm', '--runtime', 'runc', '--network', 'none', ...limits, image, ...command)
    try {
      assert.match(
        podman('images', '--format', '{{.Repository}}:{{.Tag}} {{.ReadOnly}}'),
        new RegExp(`^${NAME} true$`, 'm'),
      )
      assert.equal(podman('image', 'inspect', NAME, '--format', '{{len .RootFS.Layers}}').trim(), '2')
      assert.equal(run(NAME, 'cat', '/data/new'), 'one')
      assert.equal(run(NAME, 'sh', '-c', 'echo x >/data/own; ls /data; stat -c %a /data'), 'new\nown\n1777\n')
      const context = world.path('context')
      mkdirSync(context)
      writeFileSync(join(context, 'Dockerfile'), `FROM ${NAME}\nCOPY added /data/added\n`)
      writeFileSync(join(context, 'added'), 'added')
      podman('build', '--isolation', 'chroot', '--tag', 'built:1', context)
      assert.equal(run('localhost/built:1', 'sh', '-c', 'cat /data/new /data/added'), 'oneadded')
      const own = join(world.path('podman-root'), 'overlay-layers', 'layers.json')
      assert.equal(JSON.parse(readFileSync(own, 'utf8')).length, 1)
    } finally {
      spawnSync('podman', [...folders, 'system', 'reset', '--force'])
    }
    ok(world.loam('unexport', directory))
    assert.deepEqual(world.mounts(), [])
  })

  test('an image of it stays in Loam until it is unexported, and recover mounts its layers again', () => {
    exportApp('one')
    const digest = String(list('overlay-images', 'images.json')[0]?.['digest'])
    assert.equal(world.failure('rmi', digest).code, 'IMAGE_IN_USE')
    ok(world.loam('prune', '--all', '--local'))
    const layers = list('overlay-layers', 'layers.json')
    const seen = (index: number, name: string) => {
      const diff = join(directory, 'overlay', String(layers[index]?.['id']), 'diff')
      return existsSync(join(readlinkSync(diff), name))
    }
    const view = () => [
      seen(0, 'data/gone'),
      seen(1, 'data/gone'),
      seen(1, 'data/new'),
      seen(1, 'bin/busybox'),
    ]
    assert.deepEqual(view(), [true, false, true, true])
    for (const path of world.mounts()) must('umount', path)
    assert.deepEqual(view(), [false, false, false, false])
    assert.equal(world.json('recover').restored.length, 2)
    assert.deepEqual(view(), [true, false, true, true])
    assert.deepEqual(world.json('recover').restored, [])
    assert.equal(ok(world.loam('unexport', directory, NAME)).stdout, `${NAME}\n`)
    assert.deepEqual([list('overlay-images', 'images.json'), list('overlay-layers', 'layers.json')], [[], []])
    assert.deepEqual(world.mounts(), [])
    ok(world.loam('rmi', digest))
    assert.equal(world.failure('unexport', directory).code, 'IMAGE_NOT_FOUND')
  })

  test('a name moves to the image that is exported last, and the layers of the other one are released', () => {
    exportApp('one')
    exportApp('two')
    const images = list('overlay-images', 'images.json')
    assert.deepEqual(
      images.map(({ names }) => names),
      [[NAME]],
    )
    assert.equal(list('overlay-layers', 'layers.json').length, 2)
    assert.equal(world.mounts().length, 2)
    ok(world.loam('unexport', directory))
    assert.ok(!existsSync(directory))
  })

  test('what cannot be in an additional image store is refused, and nothing is left', () => {
    exportApp('one')
    const full = world.path('full')
    mkdirSync(full)
    writeFileSync(join(full, 'file'), '')
    ok(world.loam('provision', '--id', 'web', NAME))
    const refused = (...args: readonly string[]) =>
      world.failure('export', '--format', 'containers-storage', ...args).code
    assert.deepEqual(
      [
        refused(NAME, full),
        refused('web', world.path('other')),
        refused('--size', '1G', NAME, world.path('other')),
        refused(NAME, '-'),
        refused(NAME, world.path('a:b')),
      ],
      ['OUTPUT_EXISTS', 'USAGE', 'USAGE', 'USAGE', 'USAGE'],
    )
    assert.equal(world.failure('unexport', directory, 'other:1').code, 'IMAGE_NOT_FOUND')
    ok(world.loam('destroy', 'web'))
    ok(world.loam('unexport', directory))
  })
})
