// containerd with Loam as its snapshotter: layers that containerd unpacks, and layers that are never unpacked.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { spawn, spawnSync } from 'node:child_process'
import { setUp } from '../../../loam/src/testing/set-up.ts'
import { Client } from '../support/client.ts'
import { LOAMD, ok, pushImage, DaemonWorld } from '../support/world.ts'

const LOAM = ['--snapshotter', 'loam'] as const
const OUTPUT = 'tiny:1\nhello\n'
const blobs = (requests: readonly string[]) => requests.filter((path) => path.includes('/blobs/'))

describe('containerd with snapshots of Loam', () => {
  let world: DaemonWorld
  let image = ''
  setUp(async (held) => {
    world = held.use(new DaemonWorld())
    await world.startRegistry()
    await world.startDaemon()
    await world.startContainerd()
    pushImage(world, 'tiny:1')
    image = `${world.registryHost}/tiny:1`
  })
  /** The next test finds neither containers nor images nor layers, and both daemons running. */
  afterEach(async () => {
    for (const id of lines(ok(world.ctr('containers', 'ls', '-q')).stdout)) {
      world.ctr('tasks', 'kill', '--signal', 'SIGKILL', id)
      await ended(id)
      ok(world.ctr('containers', 'rm', id))
    }
    removeImage()
    for (const { id } of world.json('ps').toReversed()) ok(world.loam('destroy', id))
    ok(world.loam('prune', '--all', '--local'))
    assert.deepEqual(left('snapshots', 'layers'), [])
    world.takeRequests()
  })

  const lines = (text: string) => text.split('\n').filter(Boolean)
  const left = (...folders: readonly string[]) =>
    folders.flatMap((name) => readdirSync(`${world.root}/${name}`))
  const snapshots = (...words: readonly string[]) => ok(world.ctr('snapshots', ...LOAM, ...words)).stdout
  /** Keys and parents of containerd's snapshots. */
  const listed = () =>
    lines(snapshots('ls'))
      .slice(1)
      .map((line) => line.split(/\s+/))
  const topKey = () => {
    const parents = new Set(listed().map(([, parent]) => parent))
    return listed().find(([key]) => !parents.has(key))?.[0] ?? ''
  }
  const pull = () => ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, image))
  const tryRemotePull = () => world.ctrRemote('images', 'rpull', '--plain-http', ...LOAM, image)
  /** Makes Loam provide the layers. Returns the paths of those that were fetched. */
  const remotePull = () => {
    ok(tryRemotePull())
    const digests = content()
    return blobs(world.takeRequests()).filter((path) => !digests.some((digest) => path.includes(digest)))
  }
  /** Digests of the blobs that containerd has itself. */
  const content = () =>
    lines(ok(world.ctr('content', 'ls')).stdout)
      .slice(1)
      .map((line) => line.split(/\s+/)[0] ?? '')
  const removeImage = () => {
    for (const name of lines(ok(world.ctr('images', 'ls', '-q')).stdout))
      ok(world.ctr('images', 'rm', '--sync', name))
    // What a refused pull has left in containerd goes with its next collection, which the end of a lease begins.
    ok(world.ctr('leases', 'create', '--id', 'collect'))
    ok(world.ctr('leases', 'delete', '--sync', 'collect'))
  }
  const runs = (id: string, ...command: readonly string[]) =>
    ok(world.ctr('run', '--rm', ...LOAM, image, id, ...command)).stdout
  const startLong = (id: string) =>
    ok(world.ctr('run', '--detach', ...LOAM, image, id, '/bin/sh', '-c', 'sleep 100'))
  const ended = async (id: string) => {
    for (let tries = 0; tries < 100; tries += 1) {
      if (!lines(ok(world.ctr('tasks', 'ls', '-q')).stdout).includes(id)) return
      world.ctr('tasks', 'rm', id)
      await sleep(50)
    }
  }
  /** Restarts the daemon with a configuration. */
  const restart = async (config?: string) => {
    await world.stop('loamd')
    const path = world.path('loam.toml')
    if (config !== undefined) writeFileSync(path, config)
    await world.restartDaemon(...(config === undefined ? [] : ['--config', path]))
  }

  describe('an image that containerd unpacks', () => {
    beforeEach(pull)

    test('containerd unpacks an image into a snapshot of Loam for each layer, and runs it', () => {
      assert.equal(listed().length, 2)
      assert.ok(left('snapshots').length >= 2)
      assert.equal(runs('c1'), OUTPUT)
    })

    test('the changes of a container become a snapshot that others start from', () => {
      ok(world.ctr('run', ...LOAM, image, 'c2', '/bin/sh', '-c', 'echo changed > /etc/new'))
      assert.ok(listed().some(([key]) => key === 'c2'))
      snapshots('commit', 'saved', 'c2')
      assert.match(snapshots('usage', 'saved'), /saved\s+[\d.]+ KiB\s+\d+/)
      snapshots('prepare', 'again', 'saved')
      assert.match(snapshots('mounts', '/mnt', 'again'), /mount -t overlay/)
      for (const key of ['again', 'saved']) snapshots('rm', key)
    })

    test('loam lists nothing of containerd, and its prune and recover remove nothing of containerd', () => {
      snapshots('prepare', 'used', topKey())
      assert.deepEqual([world.json('ps'), world.json('images')], [[], []])
      ok(world.loam('prune'))
      ok(world.loam('recover'))
      assert.equal(listed().length, 3)
      snapshots('rm', 'used')
    })

    test('containerd collects the snapshots of an image that it removes, and nothing of them is left', () => {
      removeImage()
      assert.deepEqual([listed(), left('snapshots', 'trash')], [[], []])
    })

    test('a kill of loamd leaves running containers running, and every snapshot usable', async () => {
      startLong('long')
      await world.stop('loamd', 'SIGKILL')
      const seen = world.ctr('tasks', 'exec', '--exec-id', 'e1', 'long', '/bin/cat', '/etc/hello')
      assert.equal(ok(seen).stdout, 'tiny:1\n')
      assert.notEqual(world.ctr('snapshots', ...LOAM, 'ls').status, 0)
      await world.restartDaemon()
      assert.equal(runs('c1'), OUTPUT)
      ok(world.ctr('tasks', 'exec', '--exec-id', 'e2', 'long', '/bin/sh', '-c', 'echo x > /written'))
    })
  })

  describe('an image whose layers Loam brings in', () => {
    test('Loam fetches each layer once and never unpacks it, and containerd has none of them', () => {
      const fetched = remotePull()
      // Manifest and config.
      assert.equal(content().length, 2)
      assert.equal(left('layers').length, 2)
      assert.deepEqual([fetched.length, new Set(fetched).size], [2, 2])
      assert.deepEqual(left('snapshots'), [])
      assert.equal(runs('c1'), OUTPUT)
    })

    test('all layers below a container are one mount that Loam shares', () => {
      remotePull()
      startLong('c2')
      const overlay =
        readFileSync('/proc/self/mountinfo', 'utf8')
          .split('\n')
          .find((line) => line.includes(' overlay ') && line.includes(world.folder)) ?? ''
      assert.match(overlay, /lowerdir=[^,:]*\/state\/images\/sha256-[0-9a-f]{64}[, ]/)
    })

    test('loam provisions from the layers that containerd has it bring in, and each lists its own containers', () => {
      const fetched = remotePull()
      startLong('c2')
      ok(world.loam('provision', '--id', 'mine', image))
      assert.deepEqual(
        blobs(world.takeRequests()).filter((path) => fetched.includes(path)),
        [],
      )
      assert.equal(world.json('ps').length, 1)
      assert.equal(listed().length, 3)
    })

    test('neither containerd nor loam collects layers that the other uses, and the last one removes them', () => {
      const fetched = remotePull()
      ok(world.loam('provision', '--id', 'mine', image))
      removeImage()
      assert.equal(left('layers').length, 2)
      ok(world.loam('destroy', 'mine'))
      world.takeRequests()
      ok(tryRemotePull())
      ok(world.loam('prune', '--all'))
      assert.equal(left('layers').length, 2)
      assert.deepEqual(
        blobs(world.takeRequests()).filter((path) => fetched.includes(path)),
        [],
      )
      assert.equal(runs('c3'), OUTPUT)
      removeImage()
      assert.deepEqual(left('layers'), [])
      assert.deepEqual(
        world.mounts().filter((path) => path.startsWith(world.state)),
        [],
      )
    })

    test('a restart of loamd and a reboot leave snapshots of layers that Loam brought in usable', async () => {
      remotePull()
      snapshots('prepare', 'kept', topKey())
      await world.stop('containerd')
      await world.stop('loamd', 'SIGKILL')
      for (const path of world.mounts().toReversed()) spawnSync('umount', ['-l', path])
      await world.startDaemon()
      await world.startContainerd()
      assert.equal(runs('c1'), OUTPUT)
      const target = world.path('mnt')
      const script = snapshots('mounts', target, 'kept')
      ok({ ...spawnSync('sh', ['-c', `mkdir -p ${target}; ${script}`], { encoding: 'utf8' }) })
      assert.equal(readFileSync(`${target}/etc/hello`, 'utf8'), 'tiny:1\n')
      spawnSync('umount', [target])
      snapshots('rm', 'kept')
    })

    test('a layer that Loam cannot bring in is left to containerd, and the log has the reason', async () => {
      // The daemon cannot reach the registry, while containerd has a proxy of its own: here, another name of the same host.
      const certs = world.path('certs.d', world.registryHost)
      mkdirSync(certs, { recursive: true })
      writeFileSync(`${certs}/hosts.toml`, 'server = "http://127.0.0.1:1"\n')
      await restart(`certs_dirs = ["${world.path('certs.d')}"]\nregistry_tries = 1\nconnect_timeout = "1s"\n`)
      ok(tryRemotePull())
      assert.match(
        readFileSync(world.log('loamd'), 'utf8'),
        /left a layer to containerd.*REGISTRY|left a layer to containerd.*ECONNREFUSED/,
      )
      assert.equal(runs('c1'), OUTPUT)
      assert.ok(left('snapshots').length >= 2)
      await restart()
    })
  })

  describe('lazy indexes', () => {
    test('layers with trusted lazy indexes are there before their data, and a container reads the data that it needs', async () => {
      const indexes = world.path('indexes')
      ok(world.loam('index', '--output', indexes, image))
      await restart(`lazy_trust = "own"\nlazy_index_dir = "${indexes}"\n`)
      world.takeRequests()
      ok(tryRemotePull())
      for (const layer of left('layers'))
        assert.ok(existsSync(`${world.root}/layers/${layer}/layer.lazy-index`), 'it was pulled lazily')
      assert.equal(runs('c1'), OUTPUT)
      assert.equal(snapshots('ls').match(/Committed/g)?.length, 2)
      await restart()
    })

    test('the lazy indexes of an image that a client has pulled are published beside it', async () => {
      await restart('lazy_index = "publish"\n')
      ok(tryRemotePull())
      const manifests = `http://${world.registryHost}/v2/tiny/manifests`
      const accept = 'application/vnd.oci.image.manifest.v1+json'
      const statusOf = async (tag: string) =>
        (await fetch(`${manifests}/${tag}`, { headers: { accept } })).status
      const { headers } = await fetch(`${manifests}/1`, { method: 'HEAD', headers: { accept } })
      const tag = `${headers.get('docker-content-digest')?.replace(':', '-')}.loam`
      while ((await statusOf(tag)) !== 200) await sleep(50)
      await restart()
    })
  })

  describe('a signature policy', () => {
    const policy = () => world.path('policy.toml')

    test('containerd gets no image that the signature policy forbids, whether its layers are in the store or not', async () => {
      remotePull()
      ok(world.loam('provision', '--id', 'mine', image))
      removeImage()
      writeFileSync(policy(), 'default = "reject"\n')
      await restart(`signature_policy = "${policy()}"\n`)
      const assertRefused = () => {
        const { status, stdout, stderr } = tryRemotePull()
        assert.notEqual(status, 0)
        assert.match(stderr + stdout, /signature policy forbids/)
        assert.deepEqual(listed(), [])
      }
      assert.equal(left('layers').length, 2)
      assertRefused()
      ok(world.loam('destroy', 'mine'))
      ok(world.loam('prune', '--all', '--local'))
      assert.equal(left('layers').length, 0)
      assertRefused()
      await restart()
    })

    test('containerd gets an image that a rule of the signature policy allows', async () => {
      writeFileSync(policy(), `default = "reject"\n[scope."${world.registryHost}"]\npolicy = "accept"\n`)
      await restart(`signature_policy = "${policy()}"\n`)
      ok(tryRemotePull())
      assert.equal(runs('c1'), OUTPUT)
      await restart()
    })
  })

  test('the socket of loamd is for its owner alone', () => {
    assert.equal(statSync(world.socket).mode & 0o777, 0o600)
  })

  test('loamd ends by itself on SIGTERM, and logs it', async () => {
    assert.equal(await world.stop('loamd'), 0)
    assert.match(readFileSync(world.log('loamd'), 'utf8'), /"message":"stopping"/)
    await world.restartDaemon()
  })
})

describe('the daemon', () => {
  test('loamd refuses to be started twice, takes over from one that was killed, and reports invalid flags', async () => {
    await using world = new DaemonWorld()
    await world.startDaemon()
    const args = ['--root', world.root, '--state', world.state, '--grpc-socket', world.socket]
    const second = spawnSync(process.execPath, [LOAMD, ...args], { encoding: 'utf8' })
    assert.equal(second.status, 1)
    assert.match(second.stderr, /process \d+ listens there already/)
    await world.stop('loamd', 'SIGKILL')
    await world.startDaemon()
    for (const bad of [['--log-level', 'loud'], ['--no-such-flag'], ['--grpc-socket']]) {
      assert.equal(spawnSync(process.execPath, [LOAMD, ...bad], { encoding: 'utf8' }).status, 2)
    }
    const config = spawnSync(process.execPath, [LOAMD, ...args, '--config', '/no/such/file'], {
      encoding: 'utf8',
    })
    assert.match(config.stderr, /"error":"read \/no\/such\/file/)
  })

  test('loamd uses a socket that systemd passes', async () => {
    await using world = new DaemonWorld()
    const path = world.path('passed.sock')
    const command = [process.execPath, LOAMD, '--root', world.root, '--state', world.state]
    const activator = spawn('systemd-socket-activate', ['--listen', path, ...command], { stdio: 'ignore' })
    const ended = once(activator, 'exit')
    try {
      while (!existsSync(path)) await sleep(20)
      const client = new Client(path)
      assert.deepEqual(await client.list(), [])
      client.close()
    } finally {
      // It has become the daemon.
      activator.kill()
      await ended
    }
  })
})
