// Containers in user namespaces, with runc.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { busyboxEntries, ok, World } from '../support/world.ts'

const MAPPING = '0:100000:1000,1000:300000:1000'

function createImage(world: World): string {
  // A temporary directory is closed to other users, and the runtime is one in its namespace.
  chmodSync(world.folder, 0o711)
  const layout = join(world.folder, 'layout')
  const tar = buildTar([
    ...busyboxEntries(['sh', 'id', 'cat', 'ls', 'stat', 'touch', 'sleep', 'true', 'tty']),
    { name: 'etc/' },
    { name: 'etc/passwd', data: 'root:x:0:0::/:/bin/sh\napp:x:1001:1001::/:/bin/sh\n' },
    { name: 'etc/group', data: 'root:x:0:\nfar:x:70000:root,app\n' },
    { name: 'home/', uid: 1001, gid: 1001, mode: 0o700 },
    { name: 'home/file', uid: 1001, gid: 1001, mode: 0o600, data: 'of app' },
  ])
  writeOciLayout(layout, { image: buildImage({ tars: [tar] }) })
  return `oci:${layout}:image`
}

test('root of a container in a user namespace is another user on this machine, and its files are its own in the container', async () => {
  using world = new World()
  const image = createImage(world)
  const shell = (options: readonly string[], line: string) =>
    ok(world.loam('--quiet', 'run', '--userns', MAPPING, ...options, image, '--', 'sh', '-c', line)).stdout
  assert.equal(
    shell([], 'id; stat -c %u:%g / /home /home/file; touch /new; stat -c %u:%g /new'),
    'uid=0(root) gid=0(root) groups=0(root)\n0:0\n1001:1001\n1001:1001\n0:0\n',
  )
  assert.equal(shell(['--user', 'app'], 'id -u; cat /home/file'), '1001\nof app')
  const volume = ['--mount', `type=image,source=${image},target=/data`]
  assert.equal(
    shell(volume, 'stat -c %u:%g /data/home; touch /data/new && echo written'),
    '1001:1001\nwritten\n',
  )
  assert.match(shell(['--network', 'host'], 'ls /sys/class/net'), /^lo$/m)
  const terminal = [
    process.execPath,
    ...world.args('--quiet', 'run', '--userns', MAPPING, image, '--', 'sh', '-c', 'tty; id -u'),
  ]
  const line = terminal.map((part) => `'${part}'`).join(' ')
  assert.match(
    spawnSync('script', ['-qec', line, '/dev/null'], { encoding: 'utf8' }).stdout,
    /pts.*\r?\n0\r?\n/s,
  )

  const child = spawn(
    process.execPath,
    world.args(
      '--quiet',
      'run',
      '--id',
      'far',
      '--userns',
      MAPPING,
      image,
      '--',
      'sh',
      '-c',
      'echo ready; sleep 60',
    ),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  await once(child.stdout, 'data')
  const sleeper = await findSleeper(world)
  const { uid, gid } = statSync(`/proc/${sleeper}`)
  assert.deepEqual([uid, gid], [100_000, 100_000])
  // Another user of this machine, and another namespace, reach neither the bundle nor the mounts.
  for (const path of ['bundles/far/rootfs', 'mapped', 'images']) {
    const asOther = spawnSync('setpriv', [
      '--reuid=200000',
      '--regid=200000',
      '--clear-groups',
      'ls',
      join(world.state, path),
    ])
    assert.notEqual(asOther.status, 0, path)
  }
  ok(world.loam('destroy', 'far'))
  await new Promise((resolve) => child.once('close', resolve))
  assert.deepEqual(world.mounts(), [])
  assert.deepEqual(readdirSync(join(world.state, 'bundles')), [])
})

/** Waits until the shell of the container has started the program that sleeps. */
async function findSleeper(world: World): Promise<string> {
  for (;;) {
    const found = readdirSync('/proc').find((pid) => isSleeper(pid, world))
    if (found !== undefined) return found
    await sleep(20)
  }
}

/** The process of the container that sleeps: it sees mounts of this world. */
function isSleeper(pid: string, world: World): boolean {
  try {
    const read = (name: string) => readFileSync(`/proc/${pid}/${name}`, 'latin1')
    return read('cmdline').startsWith('sleep\0') && read('mountinfo').includes(world.folder)
  } catch {
    // It has ended.
    return false
  }
}

test('a state directory that other users cannot reach is refused for a user namespace, with what to do', () => {
  using world = new World()
  const image = createImage(world)
  chmodSync(world.folder, 0o700)
  const { status, stderr } = world.loam('--quiet', 'run', '--userns', MAPPING, image, '--', 'true')
  assert.equal(status, 125)
  assert.ok(stderr.includes(`${world.folder} is closed to other users`) && stderr.includes('chmod o+x'))
})

test('options of a user namespace that are invalid or contradict each other are refused before anything is made', () => {
  using world = new World()
  const image = createImage(world)
  for (const [options, why] of [
    [['--userns', '0:1:10,5:20:10'], /ranges that overlap: container ID 0/],
    [['--userns', 'auto'], /Loam has no --userns auto/],
    [['--userns', MAPPING, '--uidmap', MAPPING], /give --uidmap and --gidmap without it/],
    [['--uidmap', MAPPING], /--uidmap and --gidmap need each other/],
    [['--userns', '1:1:10'], /does not map 0/],
    [['--userns', MAPPING, '--user', '999999'], /run as user 999999: not in the user namespace/],
  ] as const) {
    const { status, stderr } = world.loam('--quiet', 'run', ...options, image, '--', 'true')
    assert.equal(status, 125)
    assert.match(stderr, why)
  }
  assert.equal(
    world
      .loam('--quiet', 'run', '--userns', 'host', image, '--', 'cat', '/proc/self/uid_map')
      .stdout.trim()
      .split(/\s+/)[1],
    '0',
  )
  assert.deepEqual(JSON.parse(world.loam('--json', 'ps').stdout), [])
  assert.deepEqual(world.mounts(), [])
})
