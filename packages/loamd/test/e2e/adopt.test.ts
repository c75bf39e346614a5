// Images that containerd has unpacked, and that become layers of Loam.
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { describe, test } from 'node:test'
import { setUp } from '../../../loam/src/testing/set-up.ts'
import { CONTAINERD_1, CONTAINERD_2 } from '../support/containerd-release.ts'
import { DaemonWorld, exportArchive, ok, pushImage, until } from '../support/world.ts'

const LOAM = ['--snapshotter', 'loam'] as const

for (const release of [CONTAINERD_1, CONTAINERD_2]) {
  describe(`loam snapshot adopt with containerd ${release.version}`, { skip: release.skip }, () => {
    let world: DaemonWorld
    let image = ''
    setUp(async (held) => {
      world = held.use(new DaemonWorld(release))
      await world.startRegistry()
      await world.startDaemon('--no-remote')
      await world.startContainerd()
      pushImage(world, 'tiny:1')
      image = `${world.registryHost}/tiny:1`
      ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, image))
    })
    const layers = () => readdirSync(`${world.root}/layers`)
    const directories = () => readdirSync(`${world.root}/snapshots`)

    test('an imported image becomes layers from its archive while a container runs on it, and the directories go with that container', async () => {
      const archive = world.path('image.tar')
      await exportArchive(world, archive, image)
      ok(world.ctr('run', '--detach', ...LOAM, image, 'c1', '/bin/sh', '-c', 'while :; do sleep 1; done'))
      const unpacked = directories().length
      const { stdout } = ok(world.loam('snapshot', 'adopt', `oci-archive:${archive}`))
      assert.equal(stdout.trim().split('\n').length, unpacked - 1)
      assert.deepEqual([layers().length, directories().length], [unpacked - 1, unpacked])
      // The layers are those of the snapshots.
      ok(world.loam('rmi', `oci-archive:${archive}`))
      assert.equal(layers().length, unpacked - 1)
      const exec = ['tasks', 'exec', '--exec-id', 'e', 'c1', '/bin/cat', '/etc/hello'] as const
      assert.equal(ok(world.ctr(...exec)).stdout, 'tiny:1\n')
      const words = ['run', '--rm', ...LOAM, image, 'c2', '/bin/cat', '/etc/hello', '/proc/mounts'] as const
      const shown = ok(world.ctr(...words)).stdout
      assert.match(shown, /^tiny:1\n.*lowerdir=[^ ]*\/state\/images\//)
      ok(world.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'c1'))
      await until(async () => /STOPPED/.test(world.ctr('tasks', 'ls').stdout), 'the container has stopped')
      ok(world.ctr('tasks', 'delete', 'c1'))
      ok(world.ctr('containers', 'rm', 'c1'))
      ok(world.ctr('images', 'rm', '--sync', image))
      await until(async () => directories().length === 0, 'the directories are gone')
    })
  })
}
