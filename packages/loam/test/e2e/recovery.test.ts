// Root filesystems whose mounts are gone, hidden, or foreign, without a reboot.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { openLoam } from '../../src/index.ts'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { recoverAlone } from '../support/recover.ts'
import { byTurns } from '../support/rounds.ts'
import { must, World } from '../support/world.ts'

describe('recover looks at the mounts', async () => {
  const server = await RegistryServer.start()
  after(async () => server[Symbol.asyncDispose]())
  const image = buildImage({
    tars: [buildTar([{ name: 'base', data: 'base' }, { name: 'vol/' }])],
  })
  const two = buildImage({
    tars: [buildTar([{ name: 'base', data: 'base' }]), buildTar([{ name: 'top', data: 'top' }])],
  })
  const other = buildImage({ tars: [buildTar([{ name: 'other', data: 'other' }])] })
  server.addImage('one', '1', image)
  server.addImage('two', '1', two)
  server.addImage('other', '1', other)
  const run = async (world: World, ...args: readonly string[]) => {
    const { status, stdout, stderr } = await world.loamAsync('--json', '--quiet', ...args)
    assert.equal(status, 0, stderr + stdout)
    return stdout === '' ? undefined : JSON.parse(stdout)
  }
  const provision = async (world: World, id: string, ...args: readonly string[]): Promise<string> =>
    (await run(world, 'provision', '--id', id, ...args)).rootfs
  const one = `${server.host}/one:1`
  const both = `${server.host}/two:1`
  const kinds: readonly (readonly [string, string, { backend: string; isReadOnly?: boolean }])[] = [
    ['erofs', both, { backend: 'erofs' }],
    ['erofs, read-only', both, { backend: 'erofs', isReadOnly: true }],
    ['overlay', both, { backend: 'overlay' }],
    ['overlay, read-only', both, { backend: 'overlay', isReadOnly: true }],
    ['bind', one, { backend: 'bind' }],
    ['copy', one, { backend: 'copy' }],
    ['copy, read-only', one, { backend: 'copy', isReadOnly: true }],
  ]
  const damages: readonly (readonly [string, (path: string, other: string) => void])[] = [
    ['unmounted', (path) => void spawnSync('umount', ['-l', path])],
    ['hidden by a tmpfs', (path) => void must('mount', '-t', 'tmpfs', 'tmpfs', path)],
    [
      'unmounted, with another root filesystem in its place',
      (path, another) => {
        spawnSync('umount', ['-l', path])
        must('mount', '--bind', another, path)
      },
    ],
  ]
  for (const [place, [kind, reference, options]] of kinds.entries()) {
    for (const [damage, act] of byTurns(damages, place)) {
      test(`recover shows a root filesystem of ${kind} that is ${damage} again, with the data written to it`, async () => {
        using world = new World()
        await using loam = await openLoam({
          file: null,
          flags: { root: world.root, state: join(world.folder, 'state') },
          env: process.env,
        })
        const standing = async () =>
          (await loam.containers.list()).map(({ rootfses }) => rootfses[0]?.isStanding)
        const { rootfsPath: path } = await loam.provision(reference, { ...options, id: 'a' })
        const another = await loam.provision(`${server.host}/other:1`, { id: 'b' })
        const isReadOnly = options.isReadOnly === true || options.backend === 'bind'
        if (!isReadOnly) writeFileSync(join(path, 'written'), 'by the container')
        act(path, another.rootfsPath)
        const isGone = damage !== 'unmounted' || kind !== 'copy'
        assert.deepEqual(await standing(), [!isGone, true])
        assert.equal((await loam.store.fsck({ repair: false })).problems.length, isGone ? 1 : 0)
        const report = await loam.recover()
        assert.deepEqual([report.restored, report.failed], [isGone ? [path] : [], []])
        assert.equal(readFileSync(join(path, 'base'), 'utf8'), 'base')
        assert.equal(existsSync(join(path, 'other')), false)
        if (isReadOnly) assert.throws(() => writeFileSync(join(path, 'x'), ''))
        else assert.equal(readFileSync(join(path, 'written'), 'utf8'), 'by the container')
        assert.deepEqual(await standing(), [true, true])
        const again = await loam.recover()
        assert.deepEqual([again.kept.length, again.restored], [2, []])
        for (const id of ['a', 'b']) await loam.destroy(id)
        assert.deepEqual(world.mounts(), [])
      })
    }
  }

  test('recover remounts root filesystems of a namespace that has ended', async () => {
    using world = new World()
    await run(world, 'pull', `${server.host}/two:1`)
    const made = spawnSync(
      'unshare',
      ['--mount', process.execPath, ...world.args('provision', '--id', 'x', `${server.host}/two:1`)],
      { encoding: 'utf8' },
    )
    const path = made.stdout.trim()
    assert.deepEqual(readdirSync(path), [])
    assert.deepEqual((await recoverAlone(world)).restored, [path])
    assert.deepEqual(readdirSync(path).toSorted(), ['base', 'top'])
    await run(world, 'destroy', 'x')
  })

  test('recover does not remount a root filesystem that another mount namespace writes to, and the error names that process', async () => {
    using world = new World()
    const path = await provision(world, 'a', `${server.host}/two:1`)
    const child = spawn('unshare', ['--mount', 'sh', '-c', 'echo ready; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    try {
      await new Promise((resolve) => child.stdout.once('data', resolve))
      must('umount', path)
      const { status, stdout } = await world.loamAsync('--json', 'recover')
      assert.equal(status, 1)
      assert.match(JSON.parse(stdout).failed[0].reason, new RegExp(`namespace of process ${child.pid}`))
    } finally {
      child.kill()
      await new Promise((resolve) => child.once('close', resolve))
    }
    assert.deepEqual((await recoverAlone(world)).restored, [path])
    await run(world, 'destroy', 'a')
  })

  test('recover restores an image whose shared mount is hidden or gone for the next root filesystem', async () => {
    using world = new World()
    await provision(world, 'a', '--backend', 'erofs', `${server.host}/two:1`)
    const images = join(world.folder, 'state/images')
    const shared = join(images, readdirSync(images)[0] ?? '')
    must('mount', '-t', 'tmpfs', 'tmpfs', shared)
    const hidden = await provision(world, 'b', '--backend', 'erofs', `${server.host}/two:1`)
    assert.equal(readFileSync(join(hidden, 'top'), 'utf8'), 'top')
    must('umount', '-l', shared)
    const gone = await provision(world, 'c', '--backend', 'erofs', `${server.host}/two:1`)
    assert.equal(readFileSync(join(gone, 'top'), 'utf8'), 'top')
    await run(world, 'destroy', 'a', 'b', 'c')
    assert.deepEqual(world.mounts(), [])
  })

  test('recover remounts a volume with and without the root filesystem that it is in', async () => {
    using world = new World()
    const root = await provision(world, 'a', `${server.host}/one:1`)
    await run(world, 'volume', '--id', 'a', `${server.host}/other:1=/vol`)
    const place = join(root, 'vol')
    assert.deepEqual(readdirSync(place), ['other'])
    for (const path of [place, root]) {
      must('umount', '-l', path)
      await recoverAlone(world)
      assert.deepEqual(readdirSync(place), ['other'])
    }
    await run(world, 'destroy', 'a')
    assert.deepEqual(world.mounts(), [])
  })

  test("recover does not follow a container's symlink at the target of a volume", async () => {
    using world = new World()
    const root = await provision(world, 'a', `${server.host}/one:1`)
    await run(world, 'volume', '--id', 'a', `${server.host}/other:1=/data/vol`)
    const host = join(world.folder, 'host')
    mkdirSync(join(host, 'vol'), { recursive: true })
    must('umount', join(root, 'data/vol'))
    rmSync(join(root, 'data'), { recursive: true })
    symlinkSync(host, join(root, 'data'))
    const { status, stdout } = await world.loamAsync('--json', 'recover')
    assert.equal(status, 1)
    assert.match(JSON.parse(stdout).failed[0].reason, /now leads elsewhere/)
    assert.deepEqual(readdirSync(join(host, 'vol')), [])
    await run(world, 'destroy', 'a')
  })

  test('recover reports a copy whose directory is gone, which cannot be made again', async () => {
    using world = new World()
    const root = await provision(world, 'a', '--backend', 'copy', `${server.host}/one:1`)
    rmSync(root, { recursive: true })
    const { status, stdout } = await world.loamAsync('--json', 'recover')
    assert.equal(status, 1)
    assert.match(JSON.parse(stdout).failed[0].reason, /does not exist/)
    await run(world, 'destroy', 'a')
  })

  test('a container that is not mounted is neither exported nor given volumes: the answer would be an empty directory', async () => {
    using world = new World()
    const root = await provision(world, 'a', `${server.host}/one:1`)
    must('umount', root)
    for (const args of [
      ['export', '--format', 'tar', 'a', join(world.folder, 'a.tar')],
      ['volume', '--id', 'a', `${server.host}/other:1=/vol`],
    ]) {
      const { status, stderr } = await world.loamAsync('--json', '--quiet', ...args)
      assert.equal(status, 1)
      assert.equal(JSON.parse(stderr).error.code, 'ROOTFS_UNMOUNTED')
    }
    await run(world, 'destroy', 'a')
  })

  test('recover fetches a lost layer by its digest, though the name now means another image', async () => {
    using world = new World()
    server.addImage('moved', '1', two)
    const path = await provision(world, 'a', `${server.host}/moved:1`)
    server.addImage('moved', '1', other)
    await run(world, 'pull', `${server.host}/moved:1`)
    for (const mount of world.mounts().toReversed()) must('umount', '-l', mount)
    rmSync(join(world.root, 'layers', two.diffIds[0] ?? '', 'layer.tar'))
    assert.deepEqual((await recoverAlone(world)).restored, [path])
    assert.equal(readFileSync(join(path, 'base'), 'utf8'), 'base')
    await run(world, 'destroy', 'a')
  })
})
