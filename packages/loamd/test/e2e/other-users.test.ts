// Clients of other users and groups than the daemon's, as real processes.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar } from '../../../loam/src/testing/index.ts'
import { programPath } from '../../../loam/test/support/test-tools.ts'
import { layoutOf } from '../../../loam/test/support/world.ts'
import { DaemonWorld } from '../support/world.ts'

const LOAM = programPath('loam')
const USER = 61_234
const GROUP = 61_235
const image = buildImage({ tars: [buildTar([{ name: 'hello', data: 'a file' }])] })

interface Result {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

const as = (groups: readonly number[], ...words: readonly string[]): string[] => [
  'setpriv',
  `--reuid=${USER}`,
  `--regid=${USER}`,
  groups.length === 0 ? '--clear-groups' : `--groups=${groups.join(',')}`,
  ...words,
]

const envOf = (world: DaemonWorld): NodeJS.ProcessEnv => ({
  ...process.env,
  HOME: world.path('home'),
  XDG_DATA_HOME: undefined,
  XDG_RUNTIME_DIR: undefined,
  // In one, the owners of a daemon's files are unknown.
  LOAM_USER_NAMESPACE: 'never',
})

/** Runs `loam` as the user, who has a home directory, in these groups besides its own. */
function loamAs(world: DaemonWorld, groups: readonly number[], ...args: readonly string[]): Result {
  const [file = '', ...words] = as(groups, LOAM, ...args)
  return spawnSync(file, words, { cwd: '/', env: envOf(world), encoding: 'utf8' })
}

function openWorld(world: DaemonWorld): void {
  chmodSync(world.folder, 0o755)
  mkdirSync(world.path('home'))
  chownSync(world.path('home'), USER, USER)
}

const codeOf = ({ stderr }: Result): string =>
  JSON.parse(stderr.split('\n').findLast((line) => line.startsWith('{')) ?? '{}').error?.code ?? stderr

test('a member of socket_group uses the daemon with the defaults of its own user, and nobody else may connect', async () => {
  await using world = new DaemonWorld()
  openWorld(world)
  await world.startDaemon('--socket-group', `${GROUP}`)
  const { state, root } = world
  const name = layoutOf(world, image)
  const daemonsOwn = ['--root', root, '--state', state, '--daemon', 'require', '--json']
  const put = loamAs(world, [GROUP], ...daemonsOwn, 'pull', name)
  assert.equal(put.status, 0, put.stderr)
  const listed = loamAs(world, [GROUP], ...daemonsOwn, 'images')
  assert.equal(JSON.parse(listed.stdout)[0]?.digest, image.manifest.digest, listed.stderr)
  const refused = loamAs(world, [], ...daemonsOwn, 'images')
  assert.deepEqual([codeOf(refused), /EACCES/.test(refused.stderr)], ['DAEMON_UNAVAILABLE', true])

  // Without --root it is the store in its home, which is another one than the daemon's.
  const required = loamAs(world, [GROUP], '--state', state, '--daemon', 'require', '--json', 'images')
  assert.deepEqual(
    [codeOf(required), /this is .*home\/\.local\/share\/loam/.test(required.stderr)],
    ['DAEMON_UNAVAILABLE', true],
    required.stderr,
  )
  const alone = loamAs(world, [GROUP], '--state', join(world.path('home'), 'state'), '--json', 'images')
  assert.deepEqual([alone.status, JSON.parse(alone.stdout)], [0, []])
  // A process of its own has the caller's rights.
  for (const words of [
    ['run', name, 'true'],
    ['export', '--format', 'tar', name, world.path('home', 'out.tar')],
  ]) {
    const own = loamAs(world, [GROUP], ...daemonsOwn, ...words)
    assert.equal(codeOf(own), 'DAEMON_UNAVAILABLE')
    assert.match(own.stderr, /it belongs to another user/)
  }
})

test('a member of socket_group brings nothing into the store that it may not read itself', async () => {
  await using world = new DaemonWorld()
  openWorld(world)
  await world.startDaemon('--socket-group', `${GROUP}`)
  const { state, root } = world
  const [, layout = ''] = /^oci:([^:]+)/.exec(layoutOf(world, image)) ?? []
  const home = world.path('home')
  const archive = (name: string, mode: number, owner: number) => {
    const path = join(home, name)
    const packed = spawnSync('tar', ['-C', layout, '-cf', path, '.'])
    assert.equal(packed.status, 0)
    chmodSync(path, mode)
    chownSync(path, owner, owner)
    return path
  }
  const secret = archive('secret.tar', 0o600, 0)
  const link = join(home, 'link.tar')
  symlinkSync(secret, link)
  const hidden = world.path('home', 'hidden')
  cpSync(layout, hidden, { recursive: true })
  chmodSync(join(hidden, 'blobs'), 0o700)
  const own = archive('own.tar', 0o600, USER)
  const ofGroup = archive('group.tar', 0o640, 0)
  chownSync(ofGroup, 0, GROUP)
  const daemonsOwn = ['--root', root, '--state', state, '--daemon', 'require', '--json']
  const tries = [
    ['put', secret, 'made.example/app:1'],
    ['put', link, 'made.example/app:1'],
    ['load', '--input', secret],
    ['pull', `oci-archive:${secret}`],
    ['pull', `oci:${hidden}`],
  ]
  for (const words of tries) {
    const refused = loamAs(world, [GROUP], ...daemonsOwn, ...words)
    assert.match(refused.stderr, /EACCES/, words.join(' '))
    assert.notEqual(refused.status, 0)
  }
  // What another process has as its directory, beneath one that the member may not enter.
  const entered = world.path('private', 'entered')
  cpSync(layout, entered, { recursive: true })
  chmodSync(world.path('private'), 0o700)
  const inside = spawn('sleep', ['1000'], { cwd: entered, stdio: 'ignore' })
  const past = loamAs(world, [GROUP], ...daemonsOwn, 'pull', `oci:/proc/${inside.pid}/cwd`)
  inside.kill()
  assert.match(past.stderr, /EACCES/)
  // The same over the API.
  const body = JSON.stringify({ address: secret, name: 'made.example/app:1' })
  const script = `require('node:http').request({ socketPath: process.argv[1], path: '/v1/images/put', method: 'POST',
    headers: { 'content-type': 'application/json' } }, (answer) => answer.pipe(process.stdout)).end(process.argv[2])`
  const node = [process.execPath, '-e', script, join(state, 'loamd.sock'), body]
  const [file = '', ...words] = as([GROUP], ...node)
  const answered = spawnSync(file, words, { cwd: '/', env: envOf(world), encoding: 'utf8' })
  assert.match(answered.stdout, /EACCES/, answered.stderr)
  const listed = () => JSON.parse(loamAs(world, [GROUP], ...daemonsOwn, 'images').stdout)
  assert.deepEqual(listed(), [])
  for (const path of [own, ofGroup]) {
    const put = loamAs(world, [GROUP], ...daemonsOwn, 'put', path, 'made.example/app:1')
    assert.equal(put.status, 0, put.stderr)
  }
  assert.equal(listed().length, 1)
})

test('a user in other groups than its daemon runs commands by itself', async () => {
  await using world = new DaemonWorld()
  openWorld(world)
  const home = world.path('home')
  const places = ['--root', join(home, 'store'), '--state', join(home, 'state')]
  const shared = world.path('shared.tar')
  writeFileSync(shared, 'for the group', { mode: 0o640 })
  chownSync(shared, 0, GROUP)
  const [file = '', ...words] = as(
    [],
    programPath('loamd'),
    ...places,
    '--grpc-socket',
    join(home, 'grpc.sock'),
  )
  const daemon = spawn(file, words, { stdio: 'ignore', cwd: '/', env: envOf(world) })
  try {
    const socket = join(home, 'state', 'loamd.sock')
    for (let tries = 0; tries < 600 && !existsSync(socket); tries += 1) await sleep(50)
    const same = loamAs(world, [], ...places, '--daemon', 'require', 'images')
    assert.equal(same.status, 0, same.stderr)
    const other = loamAs(world, [GROUP], ...places, '--daemon', 'require', '--json', 'images')
    assert.equal(codeOf(other), 'DAEMON_UNAVAILABLE')
    assert.match(other.stderr, /it belongs to other groups/)
    // It may read the file, and its daemon may not.
    const put = loamAs(world, [GROUP], ...places, '--json', 'put', shared, 'made.example/app:1')
    assert.equal(codeOf(put), 'SOURCE_INVALID', put.stderr)
  } finally {
    const ended = once(daemon, 'close')
    daemon.kill()
    await ended
  }
})
