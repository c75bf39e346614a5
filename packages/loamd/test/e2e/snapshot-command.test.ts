// The snapshot commands: their output, and images made of snapshots.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { Client } from '../support/client.ts'
import { must, ok, pushImage, DaemonWorld } from '../support/world.ts'

describe('loam snapshot', () => {
  test('loam snapshot lists, draws, inspects and measures the snapshots of containerd', async () => {
    await using world = new DaemonWorld()
    await world.startDaemon()
    const client = new Client(world.socket)
    await client.prepare('one active')
    await client.commit('one', 'one active')
    const { mounts } = await client.prepare('two', 'one')
    await client.view('three', 'one')
    const upper =
      mounts[0]?.options.find((option) => option.startsWith('upperdir='))?.slice('upperdir='.length) ?? ''
    writeFileSync(join(upper, 'file'), Buffer.alloc(1 << 20, 1))
    const names = (...args: string[]) =>
      JSON.parse(ok(world.loam('--json', 'snapshot', ...args)).stdout).map(
        ({ name }: { name: string }) => name,
      )
    assert.deepEqual(names('list'), ['one', 'two', 'three'])
    assert.deepEqual(names('list', '--filter', 'kind==view', '--filter', 'kind==active'), ['two', 'three'])
    assert.equal(ok(world.loam('snapshot', 'tree')).stdout, 'one\n  two (active)\n  three (view)\n')
    const inspected = JSON.parse(ok(world.loam('snapshot', 'inspect', 'two')).stdout)
    assert.deepEqual(
      [inspected.parent, inspected.mounts[0].type, inspected.usage.inodes],
      ['one', 'overlay', 2],
    )
    assert.match(ok(world.loam('snapshot', 'usage', 'two')).stdout, /two\s+1\.\d+ MB\s+2/)
    const missing = world.loam('--json', 'snapshot', 'inspect', 'nothing')
    assert.equal(JSON.parse(missing.stderr).error.code, 'SNAPSHOT_NOT_FOUND')
    assert.equal(world.loam('snapshot', 'list', '--filter', '==').status, 1)
    client.close()
  })

  test('loam snapshot writes the changes of a snapshot as a layer, and creates an image that a registry and skopeo accept', async () => {
    await using world = new DaemonWorld()
    await world.startRegistry()
    await world.startDaemon()
    await world.startContainerd()
    pushImage(world, 'tiny:1')
    const image = `${world.registryHost}/tiny:1`
    for (const pull of ['remote', 'ordinary'] as const) {
      if (pull === 'remote')
        ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image))
      else ok(world.ctr('images', 'pull', '--plain-http', '--snapshotter', 'loam', image))
      ok(
        world.ctr(
          'run',
          '--snapshotter',
          'loam',
          image,
          'c',
          '/bin/sh',
          '-c',
          'echo new > /etc/new; rm /etc/hello; rm -r /tmp; mkdir /tmp',
        ),
      )
      const key = JSON.parse(
        ok(world.loam('--json', 'snapshot', 'list', '--filter', 'kind==active')).stdout,
      )[0].name
      const diff = world.path(`${pull}.tar`)
      ok(world.loam('snapshot', 'diff', key, diff))
      const listed = must('tar', '-tf', diff).split('\n')
      for (const name of ['./etc/new', './etc/.wh.hello', './tmp/.wh..wh..opq'])
        assert.ok(listed.includes(name), listed.join())
      assert.equal(world.loam('snapshot', 'diff', key, diff).status, 1)
      const target = `${world.registryHost}/made:${pull}`
      const made = ok(world.loam('--json', 'snapshot', 'commit', key, target, '--base', image, '--push'))
      const { pushed } = JSON.parse(made.stdout)
      assert.equal(pushed.layers.length, 3)
      const digest = must(
        'skopeo',
        'inspect',
        '--tls-verify=false',
        '--format',
        '{{.Digest}}',
        `docker://${target}`,
      ).trim()
      assert.equal(digest, pushed.digest)
      must(
        'skopeo',
        'copy',
        '--quiet',
        '--src-tls-verify=false',
        '--insecure-policy',
        `docker://${target}`,
        `oci:${world.path('got')}:${pull}`,
      )
      must('umoci', 'unpack', '--image', `${world.path('got')}:${pull}`, world.path(`bundle-${pull}`))
      const etc = world.path(`bundle-${pull}`, 'rootfs/etc')
      assert.deepEqual(readdirSync(etc), ['new'])
      const config = JSON.parse(readFileSync(world.path(`bundle-${pull}`, 'config.json'), 'utf8'))
      assert.deepEqual(config.process.args.slice(0, 2), ['/bin/sh', '-c'])
      // A second push finds all of it there.
      assert.match(ok(world.loam('push', target)).stderr, /already there/)
      ok(world.ctr('containers', 'rm', 'c'))
      ok(world.ctr('images', 'rm', '--sync', image))
    }
    // The same of a container of Loam's own, as a layout.
    ok(world.loam('provision', '--id', 'web', image))
    const { rootfses } = JSON.parse(ok(world.loam('--json', 'ps')).stdout)[0]
    writeFileSync(join(rootfses[0].rootfsPath, 'mine'), 'mine')
    ok(world.loam('snapshot', 'commit', 'web', 'web:2'))
    ok(world.loam('export', '--format', 'oci', 'web:2', world.path('layout')))
    must(
      'umoci',
      'unpack',
      '--image',
      `${world.path('layout')}:docker.io/library/web:2`,
      world.path('bundle-web'),
    )
    assert.equal(readFileSync(world.path('bundle-web', 'rootfs/mine'), 'utf8'), 'mine')
    const bad = world.loam('--json', 'snapshot', 'commit', 'nothing', 'x')
    assert.equal(JSON.parse(bad.stderr).error.code, 'SNAPSHOT_NOT_FOUND')
    ok(world.loam('destroy', 'web'))
  })

  test('loam snapshot imports the snapshots of the first overlay snapshotter, and reports damaged ones', async () => {
    await using world = new DaemonWorld()
    const old = world.path('old')
    const hash = (name: string) => createHash('sha256').update(name).digest('hex')
    const add = (
      kind: 'active' | 'committed',
      name: string,
      parent: string | undefined,
      files: Record<string, string>,
    ) => {
      const folder = join(old, kind, hash(name))
      mkdirSync(join(folder, 'fs'), { recursive: true })
      writeFileSync(join(folder, 'name'), name)
      for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, 'fs', file), text)
      if (parent !== undefined) symlinkSync(join(old, 'committed', hash(parent)), join(folder, 'parent'))
      if (kind === 'active') mkdirSync(join(folder, 'work'))
      symlinkSync(folder, join(old, 'index', hash(name)))
    }
    mkdirSync(join(old, 'index'), { recursive: true })
    add('committed', 'z base', undefined, { low: 'low', gone: 'x' })
    add('committed', 'a top', 'z base', { high: 'high' })
    must('mknod', join(old, 'committed', hash('a top'), 'fs/gone'), 'c', '0', '0')
    add('active', 'run/it', 'a top', { written: 'w' })
    const upper = join(old, 'active', hash('run/it'), 'fs')
    linkSync(join(upper, 'written'), join(upper, 'other name'))
    symlinkSync(old, join(upper, 'points outside'))
    must('mkfifo', join(upper, 'pipe'))
    mkdirSync(join(upper, 'opaque'))
    must('setfattr', '-n', 'trusted.overlay.opaque', '-v', 'y', join(upper, 'opaque'))
    // By its name alone: the address of a socket holds 107 bytes, and the path may be longer.
    const bind = 'import os, socket, sys; os.chdir(sys.argv[1]); socket.socket(socket.AF_UNIX).bind("s")'
    must('python3', '-c', bind, upper)
    must('chown', '7:8', join(upper, 'written'))
    add('active', 'look', 'a top', {})
    rmSync(join(old, 'active', hash('look'), 'work'), { recursive: true })
    add('committed', 'orphan', 'never', {})
    add('committed', 'self', 'self', {})
    mkdirSync(join(old, 'committed/rubbish'))
    const result = world.loam('--json', 'snapshot', 'import', old)
    assert.equal(result.status, 1)
    const report = JSON.parse(result.stdout)
    assert.deepEqual(
      report.snapshots
        .map(({ name, kind, parent }: { name: string; kind: string; parent: string }) => [name, kind, parent])
        .toSorted(),
      [
        ['a top', 'committed', 'z base'],
        ['look', 'view', 'a top'],
        ['run/it', 'active', 'a top'],
        ['z base', 'committed', ''],
      ],
    )
    assert.equal(report.failed.length, 3, result.stdout)
    assert.deepEqual(report.notes, ['"run/it": left out /s: a layer cannot hold a socket'])
    await world.startDaemon()
    const client = new Client(world.socket)
    const { mounts } = await client.mounts('run/it')
    const target = world.path('mnt')
    mkdirSync(target)
    must('mount', '-t', 'overlay', '-o', mounts[0]?.options.join(',') ?? '', 'overlay', target)
    assert.deepEqual(readdirSync(target).toSorted(), [
      ...['high', 'low', 'opaque', 'other name', 'pipe', 'points outside', 'written'],
    ])
    const { ino, nlink, uid, gid } = statSync(join(target, 'written'))
    assert.deepEqual([ino, nlink, uid, gid], [statSync(join(target, 'other name')).ino, 2, 7, 8])
    assert.equal(readlinkSync(join(target, 'points outside')), old)
    assert.equal(lstatSync(join(target, 'pipe')).isFIFO(), true)
    const copied = mounts[0]?.options
      .find((option) => option.startsWith('upperdir='))
      ?.slice('upperdir='.length)
    assert.match(must('getfattr', '-n', 'trusted.overlay.opaque', join(copied ?? '', 'opaque')), /opaque="y"/)
    must('umount', target)
    assert.equal((await client.list()).length, 4)
    assert.equal(existsSync(join(old, 'active', hash('run/it'), 'fs/written')), true)
    assert.equal(
      JSON.parse(world.loam('--json', 'snapshot', 'import', world.path('nowhere')).stderr).error.code,
      'SOURCE_NOT_FOUND',
    )
    client.close()
  })
})
