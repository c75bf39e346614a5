// Limits of what containers and snapshots write, with real file systems.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Loam, openLoam } from '../../src/app/index.ts'
import { findMountsBelow, mountImage, unmountAll } from '../../src/linux/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { mountSnapshot } from '../../src/testing/mounting.ts'
import { openWiring } from '../support/open-wiring.ts'
import { programPath } from '../support/test-tools.ts'

const MIB = 1 << 20
const base = realpathSync(mkdtempSync(join(tmpdir(), 'loam-size-')))
after(() => {
  unmountAll(base)
  rmSync(base, { recursive: true })
})

/** Fills a file until the disk is full; returns the error's code, and how many bytes fitted. */
function fill(path: string): { readonly code: string; readonly bytes: number } {
  const fd = openSync(path, 'w')
  const chunk = Buffer.alloc(64 << 10, 1)
  try {
    for (let bytes = 0; bytes < 200 * MIB; ) {
      try {
        bytes += writeSync(fd, chunk)
      } catch (error) {
        const { code = '', errno } = error as NodeJS.ErrnoException
        // Node has no name for it.
        return { code: errno === -122 ? 'EDQUOT' : code, bytes }
      }
    }
    return { code: 'no limit', bytes: 200 * MIB }
  } finally {
    closeSync(fd)
  }
}

/** Files behind loop devices. */
function loopFiles(): string[] {
  return readdirSync('/sys/block')
    .map((name) => join('/sys/block', name, 'loop/backing_file'))
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, 'utf8').trim())
}

async function openAt(name: string, more: Readonly<Record<string, unknown>> = {}): Promise<Loam> {
  const folder = join(base, name)
  mkdirSync(folder, { recursive: true })
  const flags = { root: join(folder, 'store'), state: join(folder, 'state'), ...more }
  return openLoam({ flags, file: null })
}

const image = `oci:${join(base, 'layout')}:app`
writeOciLayout(join(base, 'layout'), {
  app: buildImage({ tars: [buildTar([{ name: 'file', data: 'from the image' }])] }),
})

function mountFileSystem(type: 'btrfs' | 'ext4', name: string, bytes = 300 * MIB): string {
  const [file, target] = [join(base, `${name}.disk`), join(base, name)]
  writeFileSync(file, '')
  truncateSync(file, bytes)
  execFileSync(`mkfs.${type}`, ['-q', file])
  mkdirSync(target)
  mountImage({ type, image: file, target, flags: [] })
  return target
}

describe('size limits', () => {
  for (const backend of ['erofs', 'overlay']) {
    test(`a container of the ${backend} backend that fills its writable layer gets ENOSPC, and others write on`, async () => {
      await using loam = await openAt(backend)
      const limited = await loam.provision(image, { id: 'full', backend, sizeBytes: 8 * MIB })
      const other = await loam.provision(image, { id: 'other', backend, sizeBytes: 8 * MIB })
      const { code, bytes } = fill(join(limited.rootfsPath, 'big'))
      assert.equal(code, 'ENOSPC')
      assert.ok(bytes > 4 * MIB && bytes < 8 * MIB, String(bytes))
      writeFileSync(join(other.rootfsPath, 'small'), Buffer.alloc(MIB))
      assert.equal(readFileSync(join(limited.rootfsPath, 'file'), 'utf8'), 'from the image')
      assert.equal((await loam.containers.find('full'))?.rootfses[0]?.sizeBytes, 8 * MIB)
      const usage = (await loam.store.usage()).containers.find(({ id }) => id === 'full')
      assert.ok((usage?.bytes ?? 0) >= bytes, 'the disk usage counts the file system in the file')
      const containers = join(base, backend, 'store/containers')
      for (const id of ['full', 'other']) await loam.destroy(id)
      assert.deepEqual(readdirSync(containers), [])
      assert.deepEqual(findMountsBelow(containers), [])
      assert.deepEqual(
        loopFiles().filter((path) => path.startsWith(containers)),
        [],
      )
    })
  }

  test('what a container with a limit has written is there after its mounts are gone, and its limit too', async () => {
    await using loam = await openAt('again')
    const { rootfsPath } = await loam.provision(image, { id: 'c', sizeBytes: 8 * MIB })
    writeFileSync(join(rootfsPath, 'kept'), 'kept')
    unmountAll(join(base, 'again'))
    assert.deepEqual(
      loopFiles().filter((path) => path.startsWith(base)),
      [],
    )
    assert.equal((await loam.containers.find('c'))?.rootfses[0]?.isStanding, false)
    assert.deepEqual((await loam.containers.recover()).restored, [rootfsPath])
    assert.equal(readFileSync(join(rootfsPath, 'kept'), 'utf8'), 'kept')
    assert.equal(fill(join(rootfsPath, 'big')).code, 'ENOSPC')
    assert.deepEqual((await loam.containers.recover()).kept, [rootfsPath])
    await loam.destroy('c')
  })

  test('a file system in a file that a mount elsewhere still uses gets no second loop device', async () => {
    await using loam = await openAt('shared')
    const { rootfsPath } = await loam.provision(image, { id: 'c', sizeBytes: 8 * MIB })
    const open = openSync(join(rootfsPath, 'held'), 'w')
    unmountAll(join(base, 'shared'))
    const { restored } = await loam.containers.recover()
    assert.deepEqual(restored, [rootfsPath])
    assert.equal(loopFiles().filter((path) => path.startsWith(base)).length, 1)
    writeSync(open, 'written through the old mount')
    closeSync(open)
    assert.equal(readFileSync(join(rootfsPath, 'held'), 'utf8'), 'written through the old mount')
    await loam.destroy('c')
    assert.deepEqual(
      loopFiles().filter((path) => path.startsWith(base)),
      [],
    )
  })

  test('a provision with a limit that fails leaves no file, no mount and no loop device', async () => {
    await using loam = await openAt('failed', { size_reservation: true })
    const huge = { id: 'huge', sizeBytes: 2 ** 46 }
    await assert.rejects(loam.provision(image, huge), { code: 'USAGE' })
    const containers = join(base, 'failed/store/containers')
    assert.deepEqual(readdirSync(containers), [])
    assert.deepEqual(findMountsBelow(containers), [])
    assert.deepEqual(
      loopFiles().filter((path) => path.startsWith(containers)),
      [],
    )
  })

  test('a reserved limit takes its bytes on the disk at once, and keeps them when files are removed', async () => {
    await using loam = await openAt('reserved', { size_reservation: true })
    const { rootfsPath } = await loam.provision(image, { id: 'c', sizeBytes: 16 * MIB })
    const scratch = (await loam.containers.find('c'))?.rootfses[0]?.scratchPath ?? ''
    const blocks = () => statSync(join(scratch, 'limited.img')).blocks * 512
    assert.ok(blocks() >= 16 * MIB)
    fill(join(rootfsPath, 'big'))
    rmSync(join(rootfsPath, 'big'))
    execFileSync('sync', ['-f', join(scratch, 'limited')])
    assert.ok(blocks() >= 16 * MIB)
    await loam.destroy('c')
  })

  test('without a reservation the disk gets back what a container removes', async () => {
    await using loam = await openAt('sparse')
    const { rootfsPath } = await loam.provision(image, { id: 'c', sizeBytes: 64 * MIB })
    const scratch = (await loam.containers.find('c'))?.rootfses[0]?.scratchPath ?? ''
    const blocks = () => statSync(join(scratch, 'limited.img')).blocks * 512
    const sync = () => execFileSync('sync', ['-f', join(scratch, 'limited')])
    assert.ok(blocks() < 2 * MIB)
    fill(join(rootfsPath, 'big'))
    sync()
    assert.ok(blocks() > 50 * MIB)
    rmSync(join(rootfsPath, 'big'))
    // The kernel discards blocks in the background, some time after the commit of its journal.
    for (let tries = 0; blocks() >= 20 * MIB; tries++) {
      assert.ok(tries < 600, `the disk still holds ${blocks()} bytes`)
      sync()
      await sleep(100)
    }
    await loam.destroy('c')
  })

  test('a limit is refused where nothing can be written, where no backend keeps it, and if it is too small', async () => {
    await using loam = await openAt('refused')
    const refused = async (options: Parameters<Loam['provision']>[1], code: string) =>
      assert.rejects(loam.provision(image, options), { code })
    await refused({ sizeBytes: MIB }, 'USAGE')
    await refused({ sizeBytes: 8 * MIB + 0.5 }, 'USAGE')
    await refused({ sizeBytes: 8 * MIB, isReadOnly: true }, 'USAGE')
    await refused({ sizeBytes: 8 * MIB, backend: 'copy' }, 'BACKEND_UNSUPPORTED')
    await refused({ sizeBytes: 8 * MIB, backend: 'bind' }, 'BACKEND_UNSUPPORTED')
    assert.deepEqual(await loam.containers.list(), [])
  })

  test('on btrfs with quotas a limit is that of a subvolume, which goes away with the container', async () => {
    const disk = mountFileSystem('btrfs', 'btrfs')
    execFileSync('btrfs', ['quota', 'enable', disk])
    await using loam = await openAt('btrfs')
    const { rootfsPath } = await loam.provision(image, { id: 'c', sizeBytes: 8 * MIB })
    const scratch = (await loam.containers.find('c'))?.rootfses[0]?.scratchPath ?? ''
    assert.equal(existsSync(join(scratch, 'limited.img')), false)
    assert.equal(fill(join(rootfsPath, 'big')).code, 'EDQUOT')
    unmountAll(rootfsPath)
    assert.deepEqual((await loam.containers.recover()).restored, [rootfsPath])
    const subvolumes = () => execFileSync('btrfs', ['subvolume', 'list', disk], { encoding: 'utf8' })
    assert.match(subvolumes(), /limited/)
    await loam.destroy('c')
    assert.equal(subvolumes(), '')
  })

  test('on btrfs without quotas a limit is that of a file system in a file', async () => {
    const disk = mountFileSystem('btrfs', 'plain-btrfs')
    await using loam = await openAt('plain-btrfs')
    const { rootfsPath } = await loam.provision(image, { id: 'c', sizeBytes: 8 * MIB })
    assert.equal(fill(join(rootfsPath, 'big')).code, 'ENOSPC')
    await loam.destroy('c')
    assert.equal(execFileSync('btrfs', ['subvolume', 'list', disk], { encoding: 'utf8' }), '')
  })
})

describe('size limits after kills and on a full disk', () => {
  test('a provision with a limit that is killed at any moment is undone by the next recovery, with its loop device', async () => {
    const folder = join(base, 'kills')
    mkdirSync(folder)
    const places = ['--root', join(folder, 'store'), '--state', join(folder, 'state'), '--daemon', 'never']
    {
      await using loam = await openAt('kills')
      await loam.pull(image)
    }
    for (let round = 0; round < 4; round += 1) {
      const id = `c${round}`
      const child = spawn(programPath('loam'), [...places, 'provision', '--size', '8M', '--id', id, image], {
        stdio: 'ignore',
      })
      const ended = once(child, 'exit')
      const scratch = join(folder, 'store/containers', id, 'scratch')
      // From the first sign of it on, a moment more in each round.
      for (let tries = 0; tries < 5000 && !existsSync(scratch) && child.exitCode === null; tries += 1)
        await sleep(1)
      await sleep(round * 12)
      child.kill('SIGKILL')
      await ended
      await using loam = await openAt('kills')
      const { failed } = await loam.containers.recover()
      assert.deepEqual(failed, [])
      const left = await loam.containers.find(id)
      assert.ok(left === undefined || left.rootfses.every(({ isStanding }) => isStanding))
      if (left !== undefined) await loam.destroy(id)
      assert.deepEqual(readdirSync(join(folder, 'store/containers')), [])
      assert.deepEqual(findMountsBelow(join(folder, 'store')), [])
      assert.deepEqual(
        loopFiles().filter((file) => file.startsWith(folder)),
        [],
      )
    }
  })

  test('a limit that the disk has no room for gives errors inside of the container alone, and the store works on', async () => {
    mountFileSystem('ext4', 'small', 48 * MIB)
    await using loam = await openAt('small')
    writeFileSync(join(base, 'small/others'), Buffer.alloc(20 * MIB, 1))
    const { rootfsPath } = await loam.provision(image, { id: 'full', sizeBytes: 36 * MIB })
    let code = ''
    const fd = openSync(join(rootfsPath, 'big'), 'w')
    try {
      for (let bytes = 0; bytes < 30 * MIB; bytes += MIB) {
        writeSync(fd, Buffer.alloc(MIB, 1))
        fsyncSync(fd)
      }
    } catch (error) {
      code = (error as NodeJS.ErrnoException).code ?? ''
    } finally {
      closeSync(fd)
    }
    assert.equal(code, 'EIO')
    assert.equal(readFileSync(join(rootfsPath, 'file'), 'utf8'), 'from the image')
    await loam.destroy('full')
    const again = await loam.provision(image, { id: 'again', sizeBytes: 8 * MIB })
    writeFileSync(join(again.rootfsPath, 'file'), 'new')
    await loam.destroy('again')
  })
})

describe('size limits of snapshots', () => {
  const MAX_SIZE = 'containerd.io/snapshot/max-size'
  const setUp = async (name: string) => {
    const folder = join(base, name)
    mkdirSync(folder)
    const parts = await openWiring(folder)
    const target = join(folder, 'target')
    mkdirSync(target)
    return { parts, target, snapshots: parts.paths.snapshots, snapshotter: parts.makeSnapshotter() }
  }
  const below = (path: string) => loopFiles().filter((file) => file.startsWith(path))

  test('an active snapshot with the label max-size holds no more, and others and its parent are not affected', async () => {
    const { parts, target, snapshots, snapshotter } = await setUp('snapshots')
    await using _parts = parts
    await snapshotter.prepare('extract', '')
    writeFileSync(join(snapshots, '1/fs/file'), 'below')
    await snapshotter.commit({ name: 'base', key: 'extract' })
    const mounts = await snapshotter.prepare('limited', 'base', { [MAX_SIZE]: String(8 * MIB) })
    assert.deepEqual(await snapshotter.mounts('limited'), mounts)
    {
      using _mount = mountSnapshot(mounts, target)
      assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'below')
      assert.equal(fill(join(target, 'big')).code, 'ENOSPC')
      const { sizeBytes } = await snapshotter.usage('limited')
      assert.ok(sizeBytes > 4 * MIB && sizeBytes < 9 * MIB, String(sizeBytes))
      await snapshotter.prepare('free', 'base')
      writeFileSync(join(snapshots, '3/fs/more'), Buffer.alloc(16 * MIB))
    }
    assert.equal(below(snapshots).length, 1)
    await snapshotter.remove('limited')
    await snapshotter.cleanup()
    assert.deepEqual(readdirSync(snapshots), ['1', '3'])
    assert.deepEqual(below(snapshots), [])
    assert.deepEqual(findMountsBelow(parts.paths.root), [])
  })

  test('a snapshot with a limit is committed as any other, without its limit', async () => {
    const { parts, target, snapshots, snapshotter } = await setUp('committed')
    await using _parts = parts
    const [bind] = await snapshotter.prepare('key', '', { [MAX_SIZE]: String(8 * MIB) })
    const files = bind?.source ?? ''
    writeFileSync(join(files, 'file'), 'content')
    chownSync(join(files, 'file'), 7, 8)
    setUpWhiteout(join(files, 'gone'))
    chmodSync(files, 0o700)
    await snapshotter.commit({ name: 'base', key: 'key' })
    assert.deepEqual(below(snapshots), [])
    assert.deepEqual(readdirSync(join(snapshots, '1')).toSorted(), ['fs', 'limited.lock'])
    assert.ok((await snapshotter.usage('base')).sizeBytes > 0)
    const mounts = await snapshotter.prepare('child', 'base')
    using _mount = mountSnapshot(mounts, target)
    assert.deepEqual(readdirSync(target), ['file'])
    assert.deepEqual([statSync(join(target, 'file')).uid, statSync(join(target, 'file')).gid], [7, 8])
    assert.equal(statSync(join(snapshots, '1/fs')).mode & 0o777, 0o700)
  })

  test('the copy of the files of a snapshot with a limit is in its place before the snapshot is committed', async () => {
    const { parts, snapshots, snapshotter } = await setUp('synced')
    await using _parts = parts
    const [bind] = await snapshotter.prepare('key', '', { [MAX_SIZE]: String(8 * MIB) })
    writeFileSync(join(bind?.source ?? '', 'file'), 'content')
    const copy = join(snapshots, '1/fs/file')
    let committed: Promise<void>
    {
      using database = new DatabaseSync(parts.paths.database)
      database.exec('BEGIN IMMEDIATE')
      committed = snapshotter.commit({ name: 'base', key: 'key' })
      for (let tries = 0; tries < 400 && !existsSync(copy); tries += 1) await sleep(10)
      assert.ok(existsSync(copy))
      database.exec('ROLLBACK')
    }
    await committed
    assert.equal(readFileSync(copy, 'utf8'), 'content')
  })

  test('a snapshot with a limit is not committed if a copy would not have all of its files', async () => {
    const { parts, snapshots, snapshotter } = await setUp('not-copied')
    await using _parts = parts
    const [bind] = await snapshotter.prepare('key', '', { [MAX_SIZE]: String(8 * MIB) })
    const files = bind?.source ?? ''
    const server = createServer().listen(join(files, 'socket')).unref()
    await once(server, 'listening')
    await assert.rejects(snapshotter.commit({ name: 'base', key: 'key' }), {
      code: 'SNAPSHOT_INVALID',
      message: /socket/,
    })
    await new Promise((resolve) => server.close(resolve))
    assert.deepEqual(readdirSync(join(snapshots, '1')).toSorted(), ['limited', 'limited.img', 'limited.lock'])
    await snapshotter.commit({ name: 'base', key: 'key' })
  })

  test('a kill after the commit of a snapshot with a limit leaves what the next cleanup removes', async () => {
    const { parts, snapshots, snapshotter } = await setUp('left-limit')
    await using _parts = parts
    await snapshotter.prepare('key', '', { [MAX_SIZE]: String(8 * MIB) })
    {
      using database = new DatabaseSync(parts.paths.database)
      database.exec(`UPDATE snapshots SET kind = 'committed', max_bytes = NULL`)
    }
    mkdirSync(join(snapshots, '1/fs'))
    await snapshotter.cleanup()
    assert.deepEqual(readdirSync(join(snapshots, '1')).toSorted(), ['fs', 'limited.lock'])
    assert.deepEqual(below(snapshots), [])
  })

  test('the root directory of a snapshot with a limit has its owner after a kill while it was created', async () => {
    const { parts, snapshots, snapshotter } = await setUp('owner')
    await using _parts = parts
    await snapshotter.prepare('extract', '')
    chownSync(join(snapshots, '1/fs'), 7, 8)
    await snapshotter.commit({ name: 'base', key: 'extract' })
    const [mount] = await snapshotter.prepare('key', 'base', { [MAX_SIZE]: String(8 * MIB) })
    unmountAll(snapshots)
    rmSync(join(snapshots, '2'), { recursive: true })
    mkdirSync(join(snapshots, '2'))
    assert.deepEqual((await snapshotter.restoreMounts()).failed, [])
    assert.deepEqual(await snapshotter.usage('key'), { sizeBytes: 0, inodes: 0 })
    assert.deepEqual(await snapshotter.mounts('key'), [mount])
    const { uid, gid } = statSync(join(snapshots, '2/limited/fs'))
    assert.deepEqual([uid, gid], [7, 8])
  })

  test('what a kill has left of a directory with a limit is made complete by the next call, and a reboot unmounts it only', async () => {
    const { parts, snapshots, snapshotter } = await setUp('killed')
    await using _parts = parts
    const [bind] = await snapshotter.prepare('key', '', { [MAX_SIZE]: String(8 * MIB) })
    const files = bind?.source ?? ''
    writeFileSync(join(files, 'file'), 'content')
    unmountAll(snapshots)
    assert.deepEqual((await snapshotter.restoreMounts()).failed, [])
    assert.equal(readFileSync(join(files, 'file'), 'utf8'), 'content')
    unmountAll(snapshots)
    assert.ok((await snapshotter.usage('key')).sizeBytes > 0)
    for (const leave of [
      (folder: string) => {
        rmSync(join(folder, 'limited.img'))
        rmSync(join(folder, 'limited'), { recursive: true })
      },
      (folder: string) => {
        renameSync(join(folder, 'limited.img'), join(folder, 'limited.img.new'))
        truncateSync(join(folder, 'limited.img.new'), 100)
        rmSync(join(folder, 'limited'), { recursive: true })
      },
      (folder: string) => {
        rmSync(folder, { recursive: true })
      },
    ]) {
      unmountAll(snapshots)
      leave(join(snapshots, '1'))
      assert.deepEqual(await snapshotter.mounts('key'), [bind])
      assert.deepEqual(readdirSync(files), [])
      assert.equal(fill(join(files, 'big')).code, 'ENOSPC')
    }
    await snapshotter.remove('key')
    await snapshotter.cleanup()
    assert.deepEqual([readdirSync(snapshots), below(snapshots)], [[], []])
  })

  test('a label max-size that is not a positive number is no limit, as in containerd, and a view has none', async () => {
    const { parts, snapshots, snapshotter } = await setUp('labels')
    await using _parts = parts
    for (const [index, value] of ['0', '-1', 'big', '1.5', '9'.repeat(30)].entries()) {
      const [bind] = await snapshotter.prepare(`key ${index}`, '', { [MAX_SIZE]: value })
      assert.equal(bind?.source, join(snapshots, String(index + 1), 'fs'), value)
      assert.equal((await snapshotter.stat(`key ${index}`)).labels[MAX_SIZE], value)
    }
    const [view] = await snapshotter.view('view', '', { [MAX_SIZE]: String(8 * MIB) })
    assert.equal(view?.source, join(snapshots, '6', 'fs'))
    const [small] = await snapshotter.prepare('small', '', { [MAX_SIZE]: '1' })
    assert.equal(small?.source, join(snapshots, '7', 'limited', 'fs'))
  })

  test('a snapshot that was mounted with volatile is mounted again in the same boot, and refused in the next one', async () => {
    const folder = join(base, 'volatile')
    mkdirSync(folder)
    await using parts = await openWiring(folder, { mount_options: 'volatile' })
    const snapshotter = parts.makeSnapshotter()
    const target = join(folder, 'target')
    mkdirSync(target)
    await snapshotter.prepare('extract', '')
    await snapshotter.commit({ name: 'base', key: 'extract' })
    for (const limits of [{}, { [MAX_SIZE]: String(8 * MIB) }]) {
      await snapshotter.prepare('key', 'base', limits)
      for (const name of ['first', 'second']) {
        using _mount = mountSnapshot(await snapshotter.mounts('key'), target)
        writeFileSync(join(target, name), '')
      }
      const id = readdirSync(parts.paths.snapshots).at(-1) ?? ''
      writeFileSync(join(parts.paths.snapshots, id, 'volatile'), 'another boot')
      const refused = { code: 'SNAPSHOT_INVALID', message: /volatile/ }
      await assert.rejects(snapshotter.mounts('key'), refused)
      await assert.rejects(snapshotter.commit({ name: 'committed', key: 'key' }), refused)
      {
        await using loam = await openAt('volatile')
        await assert.rejects(loam.snapshots.diff('key', join(folder, 'diff.tar')), refused)
        await assert.rejects(loam.snapshots.commit('key', 'damaged:1'), refused)
      }
      const { failed } = await snapshotter.restoreMounts()
      assert.deepEqual(
        failed.map(({ what }) => what),
        ['snapshot key'],
      )
      await snapshotter.remove('key')
      assert.deepEqual((await snapshotter.restoreMounts()).failed, [])
    }
  })
})

function setUpWhiteout(path: string): void {
  execFileSync('mknod', [path, 'c', '0', '0'])
}
