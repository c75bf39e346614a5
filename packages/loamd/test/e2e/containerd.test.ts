// containerd with Loam as its snapshotter: layers that it unpacks, and layers that nobody unpacks.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { spawn, spawnSync } from 'node:child_process'
import { Client } from '../support/client.ts'
import { LOAMD, ok, pushImage, DaemonWorld } from '../support/world.ts'

/** Starts all that the tests need. What a start that fails has begun is ended. */
async function start(...args: readonly string[]): Promise<DaemonWorld> {
  await using started = new AsyncDisposableStack()
  const world = started.use(new DaemonWorld())
  await world.startRegistry()
  await world.startDaemon(...args)
  await world.startContainerd()
  pushImage(world, 'tiny:1')
  world.takeRequests()
  started.move()
  return world
}

const image = (world: DaemonWorld) => `${world.registryHost}/tiny:1`
const OUTPUT = 'tiny:1\nhello\n'
const blobs = (requests: readonly string[]) => requests.filter((path) => path.includes('/blobs/'))

describe('containerd unpacks into snapshots of Loam', () => {
  test('containerd pulls, runs, commits, removes and collects with snapshots of Loam, and neither sees the other’s images', async () => {
    await using world = await start()
    ok(world.ctr('images', 'pull', '--plain-http', '--snapshotter', 'loam', image(world)))
    assert.equal(ok(world.ctr('run', '--rm', '--snapshotter', 'loam', image(world), 'c1')).stdout, OUTPUT)
    const listed = () =>
      ok(world.ctr('snapshots', '--snapshotter', 'loam', 'ls'))
        .stdout.trim()
        .split('\n')
        .slice(1)
    assert.equal(listed().length, 2)
    assert.ok(readdirSync(`${world.root}/snapshots`).length >= 2)
    // A container's changes become a snapshot that others start from.
    ok(
      world.ctr(
        'run',
        '--snapshotter',
        'loam',
        image(world),
        'c2',
        '/bin/sh',
        '-c',
        'echo changed > /etc/new',
      ),
    )
    const top = listed()
      .map((line) => line.split(/\s+/)[0] ?? '')
      .find((key) => key === 'c2')
    assert.equal(top, 'c2')
    ok(world.ctr('snapshots', '--snapshotter', 'loam', 'commit', 'saved', 'c2'))
    const usage = ok(world.ctr('snapshots', '--snapshotter', 'loam', 'usage', 'saved')).stdout
    assert.match(usage, /saved\s+[\d.]+ KiB\s+\d+/)
    ok(world.ctr('snapshots', '--snapshotter', 'loam', 'prepare', 'again', 'saved'))
    const mounts = ok(world.ctr('snapshots', '--snapshotter', 'loam', 'mounts', '/mnt', 'again')).stdout
    assert.match(mounts, /mount -t overlay/)
    // Neither sees the other's.
    assert.deepEqual(JSON.parse(ok(world.loam('--json', 'ps')).stdout), [])
    assert.deepEqual(JSON.parse(ok(world.loam('--json', 'images')).stdout), [])
    ok(world.loam('prune'))
    ok(world.loam('recover'))
    assert.equal(listed().length, 4)
    ok(world.ctr('containers', 'rm', 'c2'))
    for (const key of ['again', 'saved']) ok(world.ctr('snapshots', '--snapshotter', 'loam', 'rm', key))
    ok(world.ctr('images', 'rm', '--sync', image(world)))
    assert.deepEqual(listed(), [])
    assert.deepEqual(
      ['snapshots', 'trash'].flatMap((name) => readdirSync(`${world.root}/${name}`)),
      [],
    )
    assert.equal(statSync(world.socket).mode & 0o777, 0o600)
  })

  test('a kill of loamd leaves running containers running, and every snapshot usable', async () => {
    await using world = await start()
    ok(world.ctr('images', 'pull', '--plain-http', '--snapshotter', 'loam', image(world)))
    ok(
      world.ctr(
        'run',
        '--detach',
        '--snapshotter',
        'loam',
        image(world),
        'long',
        '/bin/sh',
        '-c',
        'sleep 100',
      ),
    )
    await world.stop('loamd', 'SIGKILL')
    assert.equal(
      ok(world.ctr('tasks', 'exec', '--exec-id', 'e1', 'long', '/bin/cat', '/etc/hello')).stdout,
      'tiny:1\n',
    )
    const down = world.ctr('snapshots', '--snapshotter', 'loam', 'ls')
    assert.notEqual(down.status, 0)
    await world.restartDaemon()
    assert.equal(ok(world.ctr('run', '--rm', '--snapshotter', 'loam', image(world), 'c1')).stdout, OUTPUT)
    ok(world.ctr('tasks', 'exec', '--exec-id', 'e2', 'long', '/bin/sh', '-c', 'echo x > /written'))
    ok(world.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'long'))
    await sleep(300)
    ok(world.ctr('containers', 'rm', 'long'))
    // Told to stop it ends by itself.
    assert.equal(await world.stop('loamd'), 0)
    assert.match(readFileSync(world.log('loamd'), 'utf8'), /"message":"stopping"/)
  })
})

describe('Loam brings layers in itself', () => {
  test('Loam brings in each layer once and never unpacked, and containerd has none of them', async () => {
    await using world = await start()
    ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image(world)))
    const fetched = blobs(world.takeRequests())
    const content = ok(world.ctr('content', 'ls')).stdout.trim().split('\n').slice(1)
    // Manifest and config.
    assert.equal(content.length, 2)
    const layers = readdirSync(`${world.root}/layers`)
    assert.equal(layers.length, 2)
    const configs = content.map((line) => line.split(/\s+/)[0] ?? '')
    const layerFetches = fetched.filter((path) => !configs.some((digest) => path.includes(digest)))
    assert.deepEqual([layerFetches.length, new Set(layerFetches).size], [2, 2])
    assert.deepEqual(readdirSync(`${world.root}/snapshots`), [])
    assert.equal(ok(world.ctr('run', '--rm', '--snapshotter', 'loam', image(world), 'c1')).stdout, OUTPUT)
    ok(
      world.ctr('run', '--detach', '--snapshotter', 'loam', image(world), 'c2', '/bin/sh', '-c', 'sleep 100'),
    )
    const overlay =
      readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .find((line) => line.includes(' overlay ') && line.includes(world.folder)) ?? ''
    assert.match(overlay, /lowerdir=[^,:]*\/state\/images\/sha256-[0-9a-f]{64}[, ]/)
    // Loam's own command has the layers already, and its images are its own.
    ok(world.loam('provision', '--id', 'mine', image(world)))
    assert.deepEqual(
      blobs(world.takeRequests()).filter((path) => layerFetches.includes(path)),
      [],
    )
    assert.equal(JSON.parse(ok(world.loam('--json', 'ps')).stdout).length, 1)
    assert.equal(
      ok(world.ctr('snapshots', '--snapshotter', 'loam', 'ls'))
        .stdout.trim()
        .split('\n').length,
      4,
    )
    ok(world.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'c2'))
    await sleep(300)
    ok(world.ctr('containers', 'rm', 'c2'))
    // containerd's collection takes nothing that Loam's command uses, and the other way round.
    ok(world.ctr('images', 'rm', '--sync', image(world)))
    assert.equal(readdirSync(`${world.root}/layers`).length, 2)
    ok(world.loam('destroy', 'mine'))
    ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image(world)))
    ok(world.loam('prune', '--all'))
    assert.equal(readdirSync(`${world.root}/layers`).length, 2)
    assert.deepEqual(
      blobs(world.takeRequests()).filter((path) => layerFetches.includes(path)),
      [],
    )
    assert.equal(ok(world.ctr('run', '--rm', '--snapshotter', 'loam', image(world), 'c3')).stdout, OUTPUT)
    ok(world.ctr('images', 'rm', '--sync', image(world)))
    assert.deepEqual(readdirSync(`${world.root}/layers`), [])
    assert.deepEqual(
      world.mounts().filter((path) => path.startsWith(world.state)),
      [],
    )
  })

  test('a restart of loamd and a reboot leave snapshots of layers that Loam brought in usable', async () => {
    await using world = await start()
    ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image(world)))
    ok(world.ctr('snapshots', '--snapshotter', 'loam', 'prepare', 'kept', lastKey(world)))
    await world.stop('containerd')
    await world.stop('loamd', 'SIGKILL')
    for (const path of world.mounts().toReversed()) spawnSync('umount', ['-l', path])
    await world.startDaemon()
    await world.startContainerd()
    assert.equal(ok(world.ctr('run', '--rm', '--snapshotter', 'loam', image(world), 'c1')).stdout, OUTPUT)
    const target = world.path('mnt')
    const script = ok(world.ctr('snapshots', '--snapshotter', 'loam', 'mounts', target, 'kept')).stdout
    ok({ ...spawnSync('sh', ['-c', `mkdir -p ${target}; ${script}`], { encoding: 'utf8' }) })
    assert.equal(readFileSync(`${target}/etc/hello`, 'utf8'), 'tiny:1\n')
    spawnSync('umount', [target])
  })

  test('a layer that Loam cannot bring in is left to containerd, and the log says why', async () => {
    await using world = await start()
    // Nobody is there for the daemon, while containerd has a proxy of its own: here, another name of the same host.
    await world.stop('loamd')
    const config = world.path('loam.toml')
    writeFileSync(
      config,
      'certs_dirs = ["' + world.path('certs.d') + '"]\nregistry_tries = 1\nconnect_timeout = "1s"\n',
    )
    spawnSync('sh', [
      '-c',
      `mkdir -p ${world.path('certs.d', world.registryHost)} && echo 'server = "http://127.0.0.1:1"' > ${world.path('certs.d', world.registryHost, 'hosts.toml')}`,
    ])
    await world.restartDaemon('--config', config)
    ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image(world)))
    assert.match(
      readFileSync(world.log('loamd'), 'utf8'),
      /left a layer to containerd.*REGISTRY|left a layer to containerd.*ECONNREFUSED/,
    )
    assert.equal(ok(world.ctr('run', '--rm', '--snapshotter', 'loam', image(world), 'c1')).stdout, OUTPUT)
    assert.equal(readdirSync(`${world.root}/snapshots`).length >= 2, true)
  })
})

describe('signature policy', () => {
  test('an image that the signature policy forbids is not given to containerd, whether its layers are in the store or not', async () => {
    await using world = await start()
    ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image(world)))
    ok(world.ctr('images', 'rm', '--sync', image(world)))
    await world.stop('loamd')
    const config = world.path('loam.toml')
    const policy = world.path('policy.toml')
    writeFileSync(config, `signature_policy = "${policy}"\n`)
    writeFileSync(policy, 'default = "reject"\n')
    await world.restartDaemon('--config', config)
    const refused = world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image(world))
    assert.notEqual(refused.status, 0)
    assert.match(refused.stderr + refused.stdout, /signature policy forbids/)
    assert.equal(
      ok(world.ctr('snapshots', '--snapshotter', 'loam', 'ls'))
        .stdout.trim()
        .split('\n').length,
      1,
    )
    await world.stop('loamd')
    writeFileSync(policy, `default = "reject"\n[scope."${world.registryHost}"]\npolicy = "accept"\n`)
    await world.restartDaemon('--config', config)
    ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image(world)))
    assert.equal(ok(world.ctr('run', '--rm', '--snapshotter', 'loam', image(world), 'c1')).stdout, OUTPUT)
  })
})

function lastKey(world: DaemonWorld): string {
  const lines = ok(world.ctr('snapshots', '--snapshotter', 'loam', 'ls'))
    .stdout.trim()
    .split('\n')
    .slice(1)
  const parents = new Set(lines.map((line) => line.split(/\s+/)[1]))
  return lines.map((line) => line.split(/\s+/)[0] ?? '').find((key) => !parents.has(key)) ?? ''
}

describe('the daemon', () => {
  test('loamd refuses to be started twice, takes over from one that was killed, and reports invalid flags', async () => {
    await using world = new DaemonWorld()
    await world.startDaemon()
    const args = ['--root', world.root, '--state', world.state, '--grpc-socket', world.socket]
    const second = spawnSync(process.execPath, [LOAMD, ...args], { encoding: 'utf8' })
    assert.equal(second.status, 1)
    assert.match(second.stderr, /another process does/)
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
    try {
      while (!existsSync(path)) await sleep(20)
      const client = new Client(path)
      assert.deepEqual(await client.list(), [])
      client.close()
    } finally {
      // It has become the daemon.
      activator.kill()
    }
  })
})
