// Full disks: operations that read work, and operations that free space work and free it.
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, statfsSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isLoamError, type Loam, openLoam } from '../../src/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { rounds, someOf } from '../support/rounds.ts'
import { must, World } from '../support/world.ts'

/** How each disk is created at a folder; the first three cover each file system, and each way to be full. */
const DISKS: Readonly<Record<string, (world: World, folder: string) => string>> = {
  'ext4 without blocks': (world, folder) => onFile(world, folder, '60M', 'mkfs.ext4 -q -m 0'),
  'xfs without blocks': (world, folder) => onFile(world, folder, '320M', 'mkfs.xfs -q'),
  'tmpfs without inodes': (_world, folder) => `mount -t tmpfs -o size=24m,nr_inodes=400 none ${folder}`,
  'tmpfs without blocks': (_world, folder) => `mount -t tmpfs -o size=24m none ${folder}`,
  'ext4 without inodes': (world, folder) => onFile(world, folder, '60M', 'mkfs.ext4 -q -m 0 -N 512'),
}

function onFile(world: World, folder: string, size: string, make: string): string {
  const file = join(world.folder, 'disk.img')
  return `truncate -s ${size} ${file}; ${make} ${file}; mount -o loop ${file} ${folder}`
}

/** Writes until no block, or no inode, is left. */
function fill(folder: string): void {
  mkdirSync(join(folder, 'filler'), { recursive: true })
  const until = (act: (index: number) => void) => {
    try {
      for (let index = 0; ; index += 1) act(index)
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
    }
  }
  if (statfsSync(folder).ffree < 1000) until((index) => writeFileSync(join(folder, 'filler', `${index}`), ''))
  for (const bytes of [1 << 20, 4096, 512])
    until(() => writeFileSync(join(folder, 'filler', '0'), Buffer.alloc(bytes, 1), { flag: 'a' }))
  until((index) => writeFileSync(join(folder, 'filler', `small${index}`), Buffer.alloc(4096, 1)))
  must('sync', '-f', folder)
}

const isNoSpace = (error: unknown) =>
  isLoamError(error, 'NO_SPACE') && error.hint !== undefined && !error.hint.endsWith('--root.')

describe('a full disk', () => {
  const names = ['used', 'overlaid', 'unnamed', 'removed', 'late']
  const prepare = (world: World, createDisk: (world: World, folder: string) => string) => {
    const layout = join(world.folder, 'layout')
    const image = (name: string) =>
      buildImage({
        tars: [
          buildTar([{ name, data: Buffer.alloc(400_000, name) }]),
          buildTar([{ name: `${name}2`, data: name }]),
        ],
      })
    writeOciLayout(layout, Object.fromEntries(names.map((name) => [name, image(name)])))
    const disk = join(world.folder, 'disk')
    mkdirSync(disk)
    must('sh', '-ec', createDisk(world, disk))
    const flags = { root: join(disk, 'store'), state: join(world.folder, 'state') }
    // Each opens the store again, as commands do.
    const loam = async <T>(act: (opened: Loam) => T | Promise<T>): Promise<T> => {
      await using opened = await openLoam({ file: null, flags, env: process.env })
      return await act(opened)
    }
    return { disk, loam, flags, reference: (name: string) => `oci:${layout}:${name}` }
  }

  for (const [kind, createDisk] of someOf(Object.entries(DISKS), 3)) {
    test(`a store on ${kind} can be read, and freed by destroy, rmi, prune and recover`, async () => {
      using world = new World()
      const { disk, loam, flags, reference } = prepare(world, createDisk)
      await loam(async (opened) => {
        await opened.provision(reference('used'), { id: 'a' })
        await opened.provision(reference('overlaid'), { id: 'b', backend: 'overlay' })
        for (const name of ['unnamed', 'removed']) await opened.pull(reference(name))
        await opened.images.remove(reference('unnamed'))
      })
      fill(disk)
      // More than once: reading gives back the space that it takes.
      for (let round = 0; round < rounds(3, 2); round += 1) {
        assert.equal(await loam(async (opened) => (await opened.images.list()).length), 3)
        assert.equal(await loam(async (opened) => (await opened.containers.list()).length), 2)
        assert.ok((await loam(async (opened) => (await opened.store.usage()).totalBytes)) > 0)
        await loam(async (opened) => opened.images.inspect(reference('used')))
        await assert.rejects(async () => loam(async (opened) => opened.pull(reference('late'))), isNoSpace)
      }
      const reserve = () => readdirSync(join(flags.root, 'reserve')).length
      assert.ok(reserve() > 0)
      assert.equal(await loam(async (opened) => opened.destroy('b')), true)
      assert.deepEqual((await loam(async (opened) => opened.recover())).failed, [])
      assert.ok((await loam(async (opened) => opened.images.remove(reference('removed')))) !== undefined)
      const before = statfsSync(disk)
      const pruned = await loam(async (opened) => opened.images.prune())
      // A part of an image that did not fit was small enough to be stored.
      assert.ok(pruned.layers.length >= 4)
      assert.equal(reserve(), 32)
      const after = statfsSync(disk)
      assert.ok(after.bavail > before.bavail || after.ffree > before.ffree)
      for (const name of ['trash', 'ingest']) assert.deepEqual(readdirSync(join(flags.root, name)), [])
      must('rm', '-r', join(disk, 'filler'))
      assert.deepEqual((await loam(async (opened) => opened.store.fsck({ repair: false }))).problems, [])
      await loam(async (opened) => opened.destroy('a'))
    })
  }

  test('prune alone frees a full disk, first of all', async () => {
    using world = new World()
    const { disk, loam, reference } = prepare(
      world,
      (_world, folder) => `mount -t tmpfs -o size=24m none ${folder}`,
    )
    await loam(async (opened) => {
      for (const name of ['used', 'removed']) await opened.pull(reference(name))
      await opened.images.remove(reference('removed'))
    })
    fill(disk)
    assert.equal((await loam(async (opened) => opened.images.prune())).layers.length, 2)
    await loam(async (opened) => opened.pull(reference('used')))
  })

  test('a report about the machine is made on a full disk, uses no reserve and needs none', async () => {
    using world = new World()
    const { disk, loam, flags } = prepare(
      world,
      (_world, folder) => `mount -t tmpfs -o size=24m none ${folder}`,
    )
    const reserve = join(flags.root, 'reserve')
    await loam(async (opened) => {
      fill(disk)
      const report = async () => {
        const { ino } = statSync(join(reserve, '0'))
        const { backends } = await opened.store.doctor()
        assert.equal(statSync(join(reserve, '0')).ino, ino)
        return backends
      }
      const backends = await report()
      const erofs = backends.find(({ name }) => name === 'erofs')
      assert.ok(erofs?.probe.isSupported === false && /full disk/.test(erofs.probe.reason))
      // As other processes leave it that have used all of it.
      for (const name of readdirSync(reserve)) truncateSync(join(reserve, name))
      fill(disk)
      assert.deepEqual(
        (await report()).map(({ name, probe }) => [name, probe.isSupported]),
        backends.map(({ name, probe }) => [name, probe.isSupported]),
      )
    })
  })

  test('the reserve that a killed process released is restored by the next one, and one in use is left alone', async () => {
    using world = new World()
    const { loam, flags } = prepare(world, (_world, folder) => `mount -t tmpfs -o size=24m none ${folder}`)
    await loam(() => undefined)
    const reserve = join(flags.root, 'reserve')
    for (const name of readdirSync(reserve)) must('rm', join(reserve, name))
    const lock = join(flags.root, 'locks/reserve-use')
    await loam(() => undefined)
    assert.equal(readdirSync(reserve).length, 32)
    for (const name of readdirSync(reserve)) must('rm', join(reserve, name))
    must('flock', '--shared', lock, process.execPath, ...world.args('--root', flags.root, 'images'))
    assert.deepEqual(readdirSync(reserve), [])
  })

  test('a full state directory is reported as such, and stops nothing that frees', async () => {
    using world = new World()
    const { loam, flags, reference } = prepare(
      world,
      (_world, folder) => `mount -t tmpfs -o size=24m none ${folder}`,
    )
    mkdirSync(flags.state)
    must('mount', '-t', 'tmpfs', '-o', 'size=256k,nr_inodes=12', 'none', flags.state)
    await loam(async (opened) => {
      await opened.provision(reference('used'), { id: 'a', backend: 'erofs' }).catch(async () =>
        // For kernels that cannot mount EROFS files from a tmpfs.
        opened.provision(reference('used'), { id: 'a' }),
      )
      await opened.pull(reference('removed'))
    })
    fill(flags.state)
    assert.equal(await loam(async (opened) => (await opened.containers.list()).length), 1)
    assert.ok((await loam(async (opened) => opened.images.remove(reference('removed')))) !== undefined)
    assert.equal((await loam(async (opened) => opened.images.prune())).layers.length, 2)
    assert.deepEqual((await loam(async (opened) => opened.recover())).failed, [])
    assert.equal(await loam(async (opened) => opened.destroy('a')), true)
  })
})
