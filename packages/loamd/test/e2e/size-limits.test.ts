// Limits of what containers of containerd write, by the label of their snapshots.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setUp } from '../../../loam/src/testing/set-up.ts'
import { CONTAINERD_1, CONTAINERD_2 } from '../support/containerd-release.ts'
import { DaemonWorld, ok, pushImage, until } from '../support/world.ts'

const LOAM = ['--snapshotter', 'loam'] as const
const LIMIT = ['--snapshotter-label', `containerd.io/snapshot/max-size=${8 << 20}`] as const

for (const release of [CONTAINERD_1, CONTAINERD_2]) {
  describe(`size limits with containerd ${release.version}`, { skip: release.skip }, () => {
    let world: DaemonWorld
    let image = ''
    setUp(async (held) => {
      world = held.use(new DaemonWorld(release))
      await world.startRegistry()
      await world.startDaemon('--mount-options', 'volatile')
      await world.startContainerd()
      pushImage(world, 'tiny:1')
      image = `${world.registryHost}/tiny:1`
      ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, image))
    })
    const run = (id: string, script: string, ...options: readonly string[]) =>
      world.ctr('run', ...options, ...LOAM, image, id, '/bin/sh', '-c', script)
    const loops = () =>
      readdirSync('/sys/block')
        .map((name) => join('/sys/block', name, 'loop/backing_file'))
        .filter((path) => existsSync(path) && readFileSync(path, 'utf8').startsWith(world.root))

    test('a container with the label gets an error when its writable layer is full, and another one writes on', async () => {
      const full = 'dd if=/dev/zero of=/big bs=64k count=1000; echo status $?; cat /etc/hello'
      const { stdout, stderr } = run('full', full, ...LIMIT)
      assert.equal(stdout, 'status 1\ntiny:1\n', stderr)
      assert.match(stderr, /No space left on device/)
      assert.match(ok(run('free', full, '--rm')).stdout, /^status 0/)
      assert.equal(loops().length, 1)
      // The same container once more, by a new daemon.
      await world.stop('loamd')
      await world.restartDaemon('--mount-options', 'volatile')
      assert.match(world.ctr('tasks', 'start', 'full').stdout, /^status 1\ntiny:1/)
      ok(world.ctr('containers', 'rm', 'full'))
      await until(async () => loops().length === 0, 'the loop device is gone')
    })
  })
}
