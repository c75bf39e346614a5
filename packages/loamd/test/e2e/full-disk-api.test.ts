// A daemon whose store, state, log and outputs are on one small disk that becomes full: what its API answers, and what works then.
import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { connectLoam, type RemoteLoam } from 'loamfs/client'
import { buildImage, buildTar, writeOciLayout } from 'loamfs/testing'
import { post } from '../support/http.ts'
import { DaemonWorld, must } from '../support/world.ts'

const MIB = 1 << 20

/** Mounts a disk of some MiB, with the places of the daemon on it. Returns its folder. */
function mountDisk(world: DaemonWorld): string {
  const [file, disk] = [world.path('disk.img'), world.path('disk')]
  mkdirSync(disk)
  must('truncate', '-s', '60M', file)
  must('mkfs.ext4', '-q', '-m', '0', file)
  must('mount', '-o', 'loop', file, disk)
  for (const name of ['store', 'state']) {
    mkdirSync(join(disk, name))
    mkdirSync(world.path(name), { recursive: true })
    must('mount', '--bind', join(disk, name), world.path(name))
  }
  symlinkSync(join(disk, 'loamd.log'), world.log('loamd'))
  return disk
}

/** Writes images of some MiB to a layout beside the disk. */
function writeImages(world: DaemonWorld): (name: string) => string {
  const image = (name: string) =>
    buildImage({
      tars: [buildTar([{ name, data: Buffer.alloc((name === 'removed' ? 8 : 3) * MIB, `${name} `) }])],
    })
  const names = ['used', 'removed', 'late']
  writeOciLayout(world.path('layout'), Object.fromEntries(names.map((name) => [name, image(name)])))
  return (name) => `oci:${world.path('layout')}:${name}`
}

function fill(disk: string): void {
  for (const bytes of [MIB, 4096, 512]) {
    try {
      for (;;) writeFileSync(join(disk, 'filler'), Buffer.alloc(bytes, 1), { flag: 'a' })
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
    }
  }
  must('sync', '-f', disk)
}

/** Unfinished work and rubbish. A daemon keeps an empty directory for its own work. */
function leftovers({ root }: DaemonWorld): string[] {
  const inside = readdirSync(join(root, 'ingest')).flatMap((name) => readdirSync(join(root, 'ingest', name)))
  return [...inside, ...readdirSync(join(root, 'trash'))]
}

async function assertNothingFits(loam: RemoteLoam, reference: (name: string) => string, disk: string) {
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    pull: async () => loam.pull(reference('late')),
    'pull with events': async () => loam.pull(reference('late'), { onEvent: () => undefined }),
    put: async () => loam.images.put(reference('late'), 'example.test/late:1'),
    provision: async () => loam.provision(reference('used'), { id: 'copied', backend: 'copy' }),
    'provision what is not here': async () => loam.provision(reference('late'), { id: 'late' }),
    export: async () => loam.export(reference('used'), { format: 'tar', output: join(disk, 'output') }),
    commit: async () => loam.images.commit('web', 'example.test/committed:1'),
  }
  for (const [name, call] of Object.entries(calls)) {
    await assert.rejects(call, { code: 'NO_SPACE' }, name)
    assert.equal((await loam.images.list()).length, 2, name)
    assert.deepEqual(
      (await loam.containers.list()).map(({ id }) => String(id)),
      ['web'],
      name,
    )
  }
}

test('on a full disk the API answers NO_SPACE to what needs room and goes on, and a prune by it makes room', async () => {
  await using world = new DaemonWorld()
  const disk = mountDisk(world)
  const reference = writeImages(world)
  await world.startDaemon('--log-level', 'debug')
  await using loam = await connectLoam({ socket: world.apiSocket })
  const { rootfsPath } = await loam.provision(reference('used'), { id: 'web' })
  writeFileSync(join(rootfsPath, 'changed'), Buffer.alloc(2 * MIB, 'changed'))
  await loam.pull(reference('removed'))
  fill(disk)
  const { status, body } = await post(world.apiSocket, '/v1/images/pull', { image: reference('late') })
  assert.equal(status, 507)
  assert.equal(JSON.parse(body).code, 'NO_SPACE')
  await assertNothingFits(loam, reference, disk)
  assert.deepEqual(leftovers(world), [])
  assert.ok(!existsSync(join(disk, 'output')))
  assert.deepEqual(
    readdirSync(disk).filter(
      (name) => !['store', 'state', 'filler', 'loamd.log', 'lost+found'].includes(name),
    ),
    [],
  )
  // What reads and what takes away works, and its log has no room, which is no reason to end.
  assert.ok((await loam.store.usage()).totalBytes > 0)
  const before = statfsSync(disk).bavail
  await loam.images.remove(reference('removed'))
  await loam.images.prune()
  assert.ok((statfsSync(disk).bavail - before) * statfsSync(disk).bsize > 3 * MIB)
  await loam.pull(reference('late'))
  assert.deepEqual((await loam.store.fsck({ repair: false })).problems, [])
  assert.equal(await loam.destroy('web'), true)
  assert.equal(loam.daemon.pid, world.pidOf('loamd'))
  assert.equal(await world.stop('loamd'), 0)
})

test('a daemon starts on a full disk that has its store, state and log, and its API frees the disk', async () => {
  await using world = new DaemonWorld()
  const disk = mountDisk(world)
  const reference = writeImages(world)
  await world.startDaemon()
  {
    await using loam = await connectLoam({ socket: world.apiSocket })
    await loam.provision(reference('used'), { id: 'web' })
    await loam.pull(reference('removed'))
  }
  await world.stop('loamd', 'SIGKILL')
  fill(disk)
  await world.startDaemon('--log-level', 'debug')
  await using loam = await connectLoam({ socket: world.apiSocket })
  assert.equal((await loam.images.list()).length, 2)
  assert.deepEqual((await loam.recover()).failed, [])
  // What works on this machine is not judged by a disk that is full.
  const { backends } = await loam.store.doctor()
  assert.ok(backends.every(({ probe }) => probe.isSupported))
  await loam.images.prune({ all: true, local: true })
  assert.equal((await loam.images.list()).length, 1)
  await loam.pull(reference('late'))
  assert.deepEqual(leftovers(world), [])
  assert.match(readFileSync(world.log('loamd'), 'utf8'), /"message":"serving"/)
  assert.equal(await world.stop('loamd'), 0)
})
