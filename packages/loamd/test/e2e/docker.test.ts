// Docker 28 with Loam as the snapshotter of its containerd: the configuration that `loamd configure` writes.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, test } from 'node:test'
import { DebianRegistry } from '../../../loam/test/support/debian-registry.ts'
import { setUp } from '../../../loam/src/testing/set-up.ts'
import { dockerConfig, type NodeReport } from '../../../loam/src/nodes/index.ts'
import { CONTAINERD_2, NEWEST_PROGRAMS, WITHOUT_NEWEST } from '../support/containerd-release.ts'
import { type CommandResult, DaemonWorld, must, ok, pushImage, until } from '../support/world.ts'

/** containerd's namespace of Docker. */
const MOBY = 'moby'
const TIMEOUT_MS = 120_000

describe('Docker 28 with snapshots of Loam', { skip: WITHOUT_NEWEST }, () => {
  let world: DaemonWorld
  let image = ''
  setUp(async (held) => {
    world = held.use(new DaemonWorld(CONTAINERD_2))
    await world.startRegistry()
    // As the daemon of the user who logs in: ~/.docker.
    await world.startDaemonWith({ DOCKER_CONFIG: world.path('client') })
    await world.startContainerd()
    pushImage(world, 'tiny:1')
    image = `${world.registryHost}/tiny:1`
    await startDocker()
  })

  const config = () => world.path('daemon.json')
  const startDocker = async () => {
    // What a test machine needs besides: folders of its own, and no network.
    const own = {
      containerd: world.containerdSocket,
      hosts: [`unix://${world.path('docker.sock')}`],
      'data-root': world.path('docker'),
      'exec-root': world.path('docker-exec'),
      pidfile: world.path('docker.pid'),
      'insecure-registries': ['127.0.0.0/8'],
      bridge: 'none',
      iptables: false,
      ip6tables: false,
      'userland-proxy': false,
    }
    writeFileSync(config(), JSON.stringify({ ...JSON.parse(dockerConfig()), ...own }))
    mkdirSync(world.path('client'), { recursive: true })
    writeFileSync(
      world.path('client', 'config.json'),
      JSON.stringify({ cliPluginsExtraDirs: [NEWEST_PROGRAMS] }),
    )
    const env = { PATH: `${NEWEST_PROGRAMS}:${process.env['PATH']}`, OTEL_TRACES_EXPORTER: 'none' }
    world.startProgram('dockerd', join(NEWEST_PROGRAMS, 'dockerd'), {
      args: ['--config-file', config()],
      env,
    })
    await until(async () => docker('version').status === 0, 'Docker answers')
  }
  const docker = (...args: readonly string[]): CommandResult => {
    const places = ['--config', world.path('client'), '--host', `unix://${world.path('docker.sock')}`]
    const { status, stdout, stderr } = spawnSync(join(NEWEST_PROGRAMS, 'docker'), [...places, ...args], {
      encoding: 'utf8',
      timeout: TIMEOUT_MS,
    })
    return { status, stdout, stderr }
  }
  const does = (...args: readonly string[]) => ok(docker(...args)).stdout.trim()
  const runs = (...args: readonly string[]) => does('run', '--network', 'none', ...args)
  const layers = () => readdirSync(`${world.root}/layers`)
  const snapshots = () => readdirSync(`${world.root}/snapshots`)

  /** The next test finds neither containers nor images, and nothing of them in the store. */
  afterEach(async () => {
    for (const id of does('ps', '--all', '--quiet').split('\n').filter(Boolean)) does('rm', '--force', id)
    does('builder', 'prune', '--all', '--force')
    does('image', 'prune', '--all', '--force')
    await until(
      async () => [...layers(), ...snapshots()].length === 0,
      'containerd has removed its snapshots',
    )
    world.takeRequests()
  })

  test('Docker pulls layers by Loam, and its containers run on them', () => {
    world.takeRequests()
    does('pull', '--quiet', image)
    assert.deepEqual([layers().length, snapshots()], [2, []])
    // Manifest and config.
    const content = ok(world.ctrIn(MOBY, 'content', 'ls', '-q'))
      .stdout.trim()
      .split('\n')
    assert.equal(content.length, 2)
    const blobs = world.takeRequests().filter((path) => path.includes('/blobs/'))
    const fetched = blobs.filter((path) => !content.some((digest) => path.includes(digest)))
    assert.deepEqual([fetched.length, new Set(fetched).size], [2, 2])
    assert.equal(runs('--rm', image, '/bin/cat', '/etc/hello'), 'tiny:1')
    runs('--detach', '--name', 'long', image, '/bin/sh', '-c', 'sleep 1000')
    assert.equal(does('exec', 'long', '/bin/cat', '/etc/hello'), 'tiny:1')
    does('exec', 'long', '/bin/sh', '-c', 'echo x > /written')
    assert.match(does('diff', 'long'), /A \/written/)
    assert.match(does('info'), /Storage Driver: loam/)
  })

  test('loam doctor finds that Docker is configured for Loam', () => {
    const { status, stdout } = world.loam('--json', 'doctor', '--docker', config())
    const { findings } = (JSON.parse(stdout) as { docker: NodeReport }).docker
    assert.deepEqual(
      findings.filter((finding) => finding.status !== 'right'),
      [],
    )
    assert.equal(status, 0)
  })

  test('an image that docker login gives access to is pulled by Loam', async () => {
    const path = world.path('htpasswd')
    writeFileSync(path, must('htpasswd', '-Bbn', 'anna', 'Zugang-4711'))
    using registry = await DebianRegistry.start({ rest: { auth: { htpasswd: { realm: 'test', path } } } })
    const target = `${registry.host}/private:1`
    const login = ['--dest-tls-verify=false', '--dest-creds', 'anna:Zugang-4711']
    const from = ['--src-tls-verify=false', `docker://${image}`]
    must('skopeo', 'copy', '--quiet', '--insecure-policy', ...login, ...from, `docker://${target}`)
    assert.notEqual(docker('pull', '--quiet', target).status, 0)
    does('login', '--username', 'anna', '--password', 'Zugang-4711', registry.host)
    does('pull', '--quiet', target)
    assert.deepEqual([layers().length, snapshots()], [2, []])
    does('logout', registry.host)
  })

  test('Docker commits a container and builds an image on layers of Loam, and pushes what it has built', () => {
    does('pull', '--quiet', image)
    runs('--name', 'changed', image, '/bin/sh', '-c', 'echo changed > /etc/new')
    does('commit', 'changed', 'committed:1')
    assert.equal(runs('--rm', 'committed:1', '/bin/cat', '/etc/new'), 'changed')
    const context = world.path('context')
    mkdirSync(context)
    writeFileSync(join(context, 'Dockerfile'), `FROM ${image}\nRUN echo built > /etc/built\n`)
    const target = `${world.registryHost}/built:1`
    does('build', '--quiet', '--network', 'none', '--provenance=false', '--tag', target, context)
    assert.equal(runs('--rm', target, '/bin/cat', '/etc/built', '/etc/hello'), 'built\ntiny:1')
    does('push', '--quiet', target)
    for (const name of [target, image]) does('rmi', '--force', name)
    assert.equal(runs('--rm', target, '/bin/cat', '/etc/built'), 'built')
  })

  test('Docker saves an image and pushes a commit of it once loam snapshot fetch has brought the blobs', () => {
    does('pull', '--quiet', image)
    runs('--name', 'changed', image, '/bin/sh', '-c', 'echo changed > /etc/new')
    const target = `${world.registryHost}/committed:2`
    does('commit', 'changed', target)
    // The image is in no registry: its lower layers are those of the other.
    const places = ['--containerd-socket', world.containerdSocket] as const
    ok(world.loam(...places, 'snapshot', 'fetch', '--namespace', MOBY, target))
    const archive = world.path('fetched.tar')
    does('save', '--output', archive, image)
    const entries = must('tar', '-tf', archive).match(/blobs\/sha256\/[0-9a-f]{64}/g)
    assert.ok((entries?.length ?? 0) >= 4)
    does('push', '--quiet', target)
    does('rm', '--force', 'changed')
    does('rmi', '--force', image, target)
    does('load', '--quiet', '--input', archive)
    assert.equal(runs('--rm', image, '/bin/cat', '/etc/hello'), 'tiny:1')
  })

  test('containers of Docker run on while loamd is killed, and it pulls again afterwards', async () => {
    does('pull', '--quiet', image)
    runs('--detach', '--name', 'long', image, '/bin/sh', '-c', 'sleep 1000')
    await world.stop('loamd', 'SIGKILL')
    assert.equal(does('exec', 'long', '/bin/cat', '/etc/hello'), 'tiny:1')
    await world.restartDaemon()
    assert.equal(does('exec', 'long', '/bin/cat', '/etc/hello'), 'tiny:1')
    assert.equal(runs('--rm', image, '/bin/cat', '/etc/hello'), 'tiny:1')
    does('rm', '--force', 'long')
    does('rmi', image)
    does('pull', '--quiet', image)
    assert.equal(
      ok(world.ctrIn(MOBY, 'snapshots', '--snapshotter', 'loam', 'ls')).stdout.match(/sha256:/g)?.length,
      3,
    )
  })

  test('with Loam as its differ, Docker saves and pushes complete images, on layers that are not unpacked', async () => {
    for (const name of ['dockerd', 'containerd', 'loamd']) await world.stop(name)
    await world.startDaemon('--no-remote', '--containerd-socket', world.containerdSocket)
    await world.startContainerd('', true)
    await startDocker()
    does('pull', '--quiet', image)
    assert.deepEqual([layers().length, snapshots()], [2, []])
    const archive = world.path('saved.tar')
    does('save', '--output', archive, image)
    const entries = must('tar', '-tf', archive).match(/blobs\/sha256\/[0-9a-f]{64}/g)
    // Two layers, config and manifest at least.
    assert.ok((entries?.length ?? 0) >= 4)
    runs('--name', 'changed', image, '/bin/sh', '-c', 'echo changed > /etc/new')
    const target = `${world.registryHost}/committed:1`
    does('commit', 'changed', target)
    does('push', '--quiet', target)
    does('rm', '--force', 'changed')
    does('rmi', '--force', image, target)
    does('load', '--quiet', '--input', archive)
    assert.equal(runs('--rm', image, '/bin/cat', '/etc/hello'), 'tiny:1')
    does('pull', '--quiet', target)
    assert.equal(runs('--rm', target, '/bin/cat', '/etc/new', '/etc/hello'), 'changed\ntiny:1')
    assert.equal(snapshots().length, 0)
  })
})
