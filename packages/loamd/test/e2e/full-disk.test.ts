// A store on a disk of 40 MB, and containerd's own overlayfs on another one: the space after a pull that does not fit, and the operations that work then.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar, writeOciLayout } from '../../../loam/src/testing/index.ts'
import { must, ok, type CommandResult, DaemonWorld } from '../support/world.ts'

const MIB = 1 << 20

function mountDisk(world: DaemonWorld, name: string, folder: string): void {
  mkdirSync(folder, { recursive: true })
  const file = world.path(`${name}.img`)
  must('truncate', '-s', '40M', file)
  must('mkfs.ext4', '-q', '-m', '0', file)
  must('mount', '-o', 'loop', file, folder)
}

function usedBytes(folder: string): number {
  must('sync', '-f', folder)
  const { blocks, bfree, bsize } = statfsSync(folder)
  return (blocks - bfree) * bsize
}

/** Pushes an image whose layers have the given sizes unpacked, in MiB. */
function push(world: DaemonWorld, name: string, layers: readonly number[]): string {
  const layout = world.path(`layout-${name}`)
  const tars = layers.map((mebibytes, index) =>
    buildTar([
      { name: `f${index}`, data: Buffer.alloc(mebibytes * MIB, `${name} ${index} `) },
      { name: `g${index}`, data: `${index}` },
    ]),
  )
  writeOciLayout(layout, { x: buildImage({ tars }) })
  const target = `${world.registryHost}/${name}:1`
  must(
    'skopeo',
    'copy',
    '-q',
    '--insecure-policy',
    '--dest-tls-verify=false',
    `oci:${layout}:x`,
    `docker://${target}`,
  )
  return target
}

async function settled(world: DaemonWorld, folder: string, isSo: (used: number) => boolean): Promise<number> {
  // containerd collects at its own time; a lease that is removed synchronously starts it.
  for (let tries = 0; tries < 40; tries += 1) {
    if (isSo(usedBytes(folder))) break
    world.ctr('leases', 'create', '--id', `collect-${tries}`)
    world.ctr('leases', 'delete', '--sync', `collect-${tries}`)
    await sleep(250)
  }
  return usedBytes(folder)
}

const pulls: readonly (readonly [string, (world: DaemonWorld, image: string) => CommandResult])[] = [
  [
    'whose layers Loam brings in',
    (world, image) => world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image),
  ],
  [
    'whose layers containerd unpacks',
    (world, image) => world.ctr('images', 'pull', '--plain-http', '--snapshotter', 'loam', image),
  ],
]

test('a pull that does not fit fails as such and leaves the disk as empty as containerd’s overlayfs leaves its own', async () => {
  await using world = new DaemonWorld()
  mountDisk(world, 'loam', world.root)
  const overlay = world.path('overlay')
  mountDisk(world, 'overlay', overlay)
  await world.startRegistry()
  await world.startDaemon()
  await world.startContainerd(
    `[plugins."io.containerd.snapshotter.v1.overlayfs"]\n  root_path = "${overlay}"\n`,
  )
  const large = push(world, 'large', [4, 9, 8, 30, 2])
  const small = push(world, 'small', [3, 4])
  const emptyOverlay = usedBytes(overlay)
  const failed = world.ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', large)
  assert.notEqual(failed.status, 0)
  const overlayLeft = (await settled(world, overlay, (used) => used - emptyOverlay < MIB)) - emptyOverlay
  const empty = usedBytes(world.root)
  for (const [kind, pull] of pulls) {
    const { status, stderr } = pull(world, large)
    assert.notEqual(status, 0, kind)
    assert.match(stderr, /no space|NO_SPACE|ResourceExhausted/i, kind)
    const left = (await settled(world, world.root, (used) => used - empty < MIB)) - empty
    assert.ok(
      left <= Math.max(overlayLeft, MIB),
      `${kind}: ${left} bytes are left, and ${overlayLeft} by overlayfs`,
    )
    assert.deepEqual(
      ok(world.ctr('snapshots', '--snapshotter', 'loam', 'ls'))
        .stdout.trim()
        .split('\n')
        .slice(1),
      [],
    )
    // An image that fits is pulled at once.
    ok(pull(world, small))
    ok(world.ctr('images', 'rm', '--sync', small))
    await settled(world, world.root, (used) => used - empty < MIB)
  }
  assert.doesNotMatch(readFileSync(world.log('loamd'), 'utf8'), /left a layer to containerd/)
})

test('on a disk with no block left, Remove and Cleanup work and free', async () => {
  await using world = new DaemonWorld()
  mountDisk(world, 'loam', world.root)
  await world.startRegistry()
  await world.startDaemon()
  await world.startContainerd()
  const images = [push(world, 'one', [3, 4]), push(world, 'two', [5])]
  const [, pull] = pulls[0] ?? []
  ok(pull?.(world, images[0] ?? '') as CommandResult)
  ok(world.ctr('images', 'pull', '--plain-http', '--snapshotter', 'loam', images[1] ?? ''))
  for (const size of [MIB, 4096, 512]) fill(join(world.root, 'filler'), size)
  must('sync', '-f', world.root)
  const full = usedBytes(world.root)
  for (const image of images) ok(world.ctr('images', 'rm', '--sync', image))
  const used = await settled(world, world.root, (now) => full - now > 11 * MIB)
  assert.ok(full - used > 11 * MIB, `${full - used} bytes were freed`)
  assert.deepEqual(
    ok(world.ctr('snapshots', '--snapshotter', 'loam', 'ls'))
      .stdout.trim()
      .split('\n')
      .slice(1),
    [],
  )
})

/** Writes until the disk is full. */
function fill(file: string, chunkBytes: number): void {
  const chunk = Buffer.alloc(chunkBytes, 1)
  try {
    for (;;) writeFileSync(file, chunk, { flag: 'a' })
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
  }
}
