// loamd as a differ of containerd: containerd fetches the blobs of layers, and Loam takes them without unpacking them.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { setUp } from '../../../loam/src/testing/set-up.ts'
import { CONTAINERD_2 } from '../support/containerd-release.ts'
import { DaemonWorld, exportArchive, must, ok, pushImage, until } from '../support/world.ts'

const LOAM = ['--snapshotter', 'loam'] as const

describe('loamd as a differ', { skip: CONTAINERD_2.skip }, () => {
  let world: DaemonWorld
  let image = ''
  setUp(async (held) => {
    world = held.use(new DaemonWorld(CONTAINERD_2))
    await world.startRegistry()
    await world.startDaemon(
      '--containerd-socket',
      world.containerdSocket,
      '--no-remote',
      '--log-level',
      'debug',
    )
    await world.startContainerd('', true)
    pushImage(world, 'tiny:1')
    pushImage(world, 'other:1')
    image = `${world.registryHost}/tiny:1`
  })
  const layers = () => readdirSync(`${world.root}/layers`)
  const snapshots = () => readdirSync(`${world.root}/snapshots`)

  test('a pull keeps the blobs in the content store of containerd, and unpacks nothing', async () => {
    ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, image))
    assert.deepEqual([layers().length, snapshots()], [2, []])
    const content = ok(world.ctr('content', 'ls', '-q'))
      .stdout.trim()
      .split('\n')
    assert.equal(content.length, 4)
    const { stdout } = ok(world.ctr('run', '--rm', ...LOAM, image, 'c1', '/bin/cat', '/etc/hello'))
    assert.equal(stdout, 'tiny:1\n')
    const archive = world.path('image.tar')
    await exportArchive(world, archive, image)
    assert.equal(must('tar', '-tf', archive).match(/blobs\/sha256\/./g)?.length, 4)
    ok(world.ctr('images', 'rm', '--sync', image))
    await until(
      async () => [...layers(), ...snapshots()].length === 0,
      'containerd has removed its snapshots',
    )
    ok(world.ctr('images', 'import', ...LOAM, archive))
    assert.deepEqual([layers().length, snapshots()], [2, []])
    ok(world.ctr('images', 'push', '--plain-http', `${world.registryHost}/pushed:1`, image))
  })

  test('the changes of a container are written to the content store as a layer, with the differ of Loam', async () => {
    ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, image))
    ok(world.ctr('run', ...LOAM, image, 'c2', '/bin/sh', '-c', 'echo changed > /etc/new; rm /etc/hello'))
    for (const [mediaType, list] of [
      ['application/vnd.oci.image.layer.v1.tar+gzip', '-tzf'],
      ['application/vnd.oci.image.layer.v1.tar', '-tf'],
      // The content store has it.
      ['application/vnd.oci.image.layer.v1.tar', '-tf'],
    ] as const) {
      const before = diffCalls()
      const layer = world.path('layer')
      const words = ['snapshots', ...LOAM, 'diff', '--keep', '--media-type', mediaType, 'c2']
      const script = `exec "$@" > '${layer}'`
      const { status, stderr } = spawnSync('sh', ['-c', script, 'sh', ...world.ctrCommand(...words)], {
        encoding: 'utf8',
      })
      assert.equal(status, 0, stderr)
      // runc makes /run.
      const names = must('tar', list, layer).trim().split('\n').toSorted()
      assert.deepEqual(names, ['./', './etc/', './etc/.wh.hello', './etc/new', './run/'])
      assert.equal(diffCalls(), before + 1)
    }
    ok(world.ctr('containers', 'rm', 'c2'))
    ok(world.ctr('images', 'rm', '--sync', image))
    await until(
      async () => [...layers(), ...snapshots()].length === 0,
      'containerd has removed its snapshots',
    )
  })

  test('a layer on a parent that is unpacked is unpacked by another differ of containerd', async () => {
    await world.stop('containerd')
    await world.startContainerd()
    // Both images have the same first layer.
    ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, `${world.registryHost}/other:1`))
    assert.deepEqual([layers().length, snapshots().length], [0, 2])
    await world.stop('containerd')
    await world.startContainerd('', true)
    ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, image))
    assert.deepEqual([layers().length, snapshots().length], [0, 3])
    const { stdout } = ok(world.ctr('run', '--rm', ...LOAM, image, 'c3', '/bin/cat', '/etc/hello'))
    assert.equal(stdout, 'tiny:1\n')
  })

  /** Answers of the diff API, by their log. */
  function diffCalls(): number {
    return readFileSync(world.log('loamd'), 'utf8').split('"message":"Diff"').length - 1
  }
})
