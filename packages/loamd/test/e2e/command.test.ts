// `loam` lets the daemon run its command lines: with the same output, the same errors and the same statuses as without it.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar, RegistryServer, writeOciLayout } from '../../../loam/src/testing/index.ts'
import { someOf } from '../../../loam/test/support/rounds.ts'
import { programPath } from '../../../loam/test/support/test-tools.ts'
import { busyboxEntries, gather } from '../../../loam/test/support/world.ts'
import { DaemonWorld } from '../support/world.ts'

const LOAM = programPath('loam')
const APPLETS = ['sh', 'cat', 'sleep', 'true', 'echo', 'tty']

interface Options {
  readonly daemon?: 'auto' | 'never' | 'require'
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly input?: string
  readonly program?: readonly string[]
}

interface Result {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

function start(
  world: DaemonWorld,
  { program = [LOAM], ...options }: Options,
  ...args: readonly string[]
): ChildProcess {
  const [file = '', ...words] = [...program, '--root', world.root, '--state', world.state, ...args]
  const child = spawn(file, words, {
    cwd: options.cwd ?? world.folder,
    env: { ...process.env, LOAM_DAEMON: options.daemon ?? 'require', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  child.stdin?.on('error', () => undefined)
  if (options.input !== undefined) child.stdin?.end(options.input)
  return child
}

async function resultOf(child: ChildProcess): Promise<Result> {
  const [stdout, stderr] = [child.stdout, child.stderr].map((stream) =>
    gather(stream as NodeJS.ReadableStream),
  )
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { status, stdout: stdout?.() ?? '', stderr: stderr?.() ?? '' }
}

async function loam(world: DaemonWorld, options: Options, ...args: readonly string[]): Promise<Result> {
  return resultOf(start(world, { input: '', ...options }, ...args))
}

/** Unfinished work in the store: the daemon keeps a directory of its own for it. */
function unfinished(world: DaemonWorld): string[] {
  return ['ingest', 'trash'].flatMap((name) => {
    const directory = `${world.root}/${name}`
    return readdirSync(directory).flatMap((each) => readdirSync(`${directory}/${each}`))
  })
}

/** Waits until a condition of the world holds. */
async function until(isTrue: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tried = 0; !(await isTrue()); tried += 1) {
    if (tried === 600) throw new Error(`it never came true: ${what}`)
    await sleep(50)
  }
}

describe('a command that the daemon runs', () => {
  let world: DaemonWorld
  let registry: RegistryServer
  let image: string
  const app = buildImage({
    tars: [buildTar([...busyboxEntries(APPLETS), { name: 'etc/data', data: 'no program' }])],
    config: { Env: ['PATH=/bin'] },
  })

  before(async () => {
    world = new DaemonWorld()
    registry = await RegistryServer.start()
    registry.addImage('app', '1', app)
    image = `${registry.host}/app:1`
    writeOciLayout(world.path('layout'), { x: app })
    await world.startDaemon('--log-level', 'debug')
  })
  after(async () => {
    await registry[Symbol.asyncDispose]()
    await world[Symbol.asyncDispose]()
  })

  const loamHere = async (...args: readonly string[]) => loam(world, {}, ...args)

  test('a command has the same output and the same status with and without the daemon', async () => {
    await loamHere('pull', image)
    const commands = [
      ['pull', image],
      ['pull', '--json', image],
      ['images'],
      ['--json', 'ps'],
      ['inspect', image],
      ['pull', `${registry.host}/missing:1`],
      ['--json', 'pull', `${registry.host}/missing:1`],
      ['pull', 'Not A Name'],
      ['destroy', 'nothing'],
      ['unknown'],
      [],
      ['pull', '--help'],
      ['--docker_stall_timeout=never', 'images'],
      ['--config', 'missing.toml', 'images'],
      ['provision', '--container-info', 'missing.json'],
    ]
    for (const args of someOf(commands, 7)) {
      const asked = await loamHere(...args)
      const alone = await loam(world, { daemon: 'never' }, ...args)
      const timeless = ({ status, stdout, stderr }: Result) => {
        const text = `${status} ${stdout} ${stderr}`
        return text.replaceAll(/"\w+AtMs": \d+|\d+ seconds? ago/g, 'then').replaceAll(/ {2,}/g, '  ')
      }
      assert.deepEqual(timeless(asked), timeless(alone), args.join(' '))
    }
  })

  test('a second root filesystem, its path, its end and a prune are the work of the daemon', async () => {
    const provisioned = await loamHere('provision', '--id', 'web', image)
    assert.equal(provisioned.status, 0, provisioned.stderr)
    assert.ok(readFileSync(`${provisioned.stdout.trim()}/etc/data`, 'utf8') === 'no program')
    assert.match((await loamHere('ps')).stdout, /^web /m)
    assert.deepEqual(await loamHere('destroy', 'web'), { status: 0, stdout: 'web\n', stderr: '' })
    assert.equal((await loamHere('--json', 'prune', '--dry-run')).status, 0)
  })

  test('relative paths start from the directory of the caller', async () => {
    assert.equal((await loamHere('put', './layout', 'put:1')).status, 0)
    assert.equal((await loamHere('export', '--format', 'tar', 'put:1', 'out.tar')).stdout, 'out.tar\n')
    assert.ok(readFileSync(world.path('out.tar')).includes('no program'))
    mkdirSync(world.path('elsewhere'))
    const { stderr } = await loam(world, { cwd: world.path('elsewhere') }, 'put', './layout', 'put:2')
    assert.match(stderr, /elsewhere\/layout/)
  })

  test('settings and credentials are those of the caller, and no other caller has them', async () => {
    const seen: (string | undefined)[] = []
    registry.intercept = ({ url = '', headers }, response) => {
      if (!url.includes('/private/')) return false
      seen.push(headers.authorization)
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
      return true
    }
    const home = (name: string) => {
      mkdirSync(world.path(name, '.docker'), { recursive: true })
      const auth = Buffer.from(`${name}:secret-of-${name}`).toString('base64')
      const config = JSON.stringify({ auths: { [registry.host]: { auth } } })
      writeFileSync(world.path(name, '.docker/config.json'), config)
      return { HOME: world.path(name), XDG_RUNTIME_DIR: world.path(name), TOKEN: 'secret-in-the-environment' }
    }
    const pull = async (env: NodeJS.ProcessEnv) =>
      loam(world, { env }, 'pull', `${registry.host}/private/app:1`)
    const users = ['anna', 'berta']
    for (const { stderr } of await Promise.all(users.map(async (name) => pull(home(name)))))
      assert.match(stderr, /^loam: /m)
    const given = new Set(seen.filter((each) => each !== undefined))
    const expected = users.map(
      (name) => `Basic ${Buffer.from(`${name}:secret-of-${name}`).toString('base64')}`,
    )
    assert.deepEqual([...given].toSorted(), expected.toSorted())
    seen.length = 0
    await pull({ HOME: world.path('nobody'), XDG_RUNTIME_DIR: world.path('nobody') })
    assert.deepEqual(new Set(seen), new Set([undefined]))
    const warned = await loam(world, { env: { LOAM_ROOTT: 'x' } }, 'images')
    assert.match(warned.stderr, /LOAM_ROOTT has no effect/)
    const limited = await loam(world, {}, '--limit_layer_bytes=1000', 'pull', '--json', 'oci:layout:x')
    assert.equal(
      JSON.parse(
        (await loam(world, { daemon: 'never' }, '--limit_layer_bytes=1000', 'pull', '--json', 'oci:layout:x'))
          .stdout || '{}',
      ).digest,
      JSON.parse(limited.stdout || '{}').digest,
    )
    assert.doesNotMatch(readFileSync(world.log('loamd'), 'utf8'), /secret|anna/)
    registry.intercept = () => false
  })

  test('a command that needs streams or descriptors of its caller runs in the process of the caller', async () => {
    await loamHere('export', '--format', 'oci', image, 'written')
    const tar = await loam(world, { daemon: 'auto' }, 'export', '--format', 'tar', image, '-')
    assert.ok(tar.stdout.includes('no program'))
    symlinkSync('/dev/stdin', world.path('link-to-stdin'))
    for (const input of someOf(['-', './link-to-stdin', '/dev/stdin', '/proc/self/fd/0'], 2)) {
      const required = await loam(world, {}, 'put', input, 'stream:1')
      assert.equal(required.status, 1, input)
      assert.match(required.stderr, /only this process has/)
      const put = await loam(world, { daemon: 'auto', input: 'no archive' }, 'put', input, 'stream:1')
      assert.match(put.stderr, /is not a tar archive|it is a socket/, input)
    }
  })

  test('a pull is canceled by a signal of its client, and by the end of its client', async () => {
    for (const signal of someOf(['SIGINT', 'SIGKILL', 'SIGTERM', 'SIGHUP'] as const, 2)) {
      const asked = Promise.withResolvers<void>()
      const left = Promise.withResolvers<void>()
      registry.addImage(
        'slow',
        signal.toLowerCase(),
        buildImage({ tars: [buildTar([{ name: signal, data: signal }])] }),
      )
      registry.intercept = ({ url = '' }, response) => {
        if (!url.includes('/slow/blobs/')) return false
        response.once('close', left.resolve)
        asked.resolve()
        return true
      }
      const child = start(world, {}, '--json', 'pull', `${registry.host}/slow:${signal.toLowerCase()}`)
      const result = resultOf(child)
      await asked.promise
      child.kill(signal)
      const { status, stderr } = await result
      assert.equal(status, signal === 'SIGKILL' ? null : 130)
      if (signal !== 'SIGKILL') assert.equal(JSON.parse(stderr).error.code, 'CANCELED')
      await left.promise
      await until(() => unfinished(world).length === 0, 'nothing is left')
    }
    registry.intercept = () => false
  })

  test('loam run has the streams of its caller, and its statuses', async () => {
    const run = async (...args: readonly string[]) => loam(world, { input: 'typed' }, 'run', ...args)
    assert.deepEqual(await run('--quiet', image, '--', 'sh', '-c', 'cat; echo error >&2; exit 7'), {
      status: 7,
      stdout: 'typed',
      stderr: 'error\n',
    })
    assert.match((await run(image, 'cat', '/proc/self/status')).stdout, /^Name:\tcat$/m)
    assert.equal((await run(image, 'missing')).status, 127)
    assert.equal((await run(image, '/etc/data')).status, 126)
    assert.equal((await run('--network', 'ns:/nothing', image, 'true')).status, 125)
    const { stdout } = await loam(
      world,
      { env: { MINE: 'of the caller' } },
      'run',
      '--env',
      'MINE',
      image,
      'sh',
      '-c',
      'echo $MINE',
    )
    assert.equal(stdout, 'of the caller\n')
    assert.deepEqual([world.rootfsMounts(), (await loamHere('--json', 'ps')).stdout.trim()], [[], '[]'])
  })

  test('loam run passes signals on to the container', async () => {
    const child = start(
      world,
      {},
      'run',
      image,
      'sh',
      '-c',
      'trap "echo caught; exit 3" TERM; echo up; while :; do sleep 0.1; done',
    )
    const result = resultOf(child)
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    child.kill('SIGTERM')
    const { status, stdout } = await result
    assert.deepEqual([status, stdout], [3, 'up\ncaught\n'])
  })

  test('a container outlives its killed client as it does without the daemon', async () => {
    for (const daemon of ['never', 'require'] as const) {
      const id = `kept-${daemon}`
      const child = start(world, { daemon }, 'run', '--id', id, image, 'sh', '-c', 'echo up; sleep 1000')
      await new Promise((resolve) => child.stdout?.once('data', resolve))
      // Its outputs are the container's, too.
      const exited = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await exited
      await sleep(300)
      const [container] = JSON.parse((await loamHere('--json', 'ps')).stdout)
      assert.deepEqual([container.id, container.rootfses[0].isStanding], [id, true])
      assert.equal((await loamHere('destroy', id)).stdout, `${id}\n`)
    }
  })

  test('invalid data, or a client that stops in the middle of a message, costs only its connection', async () => {
    const upgrade =
      'POST /v1/command HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: loam-command\r\n\r\n'
    for (const said of ['nonsense\n', '{"args":1}\n', '[]\n', 'x'.repeat(9 << 20)]) {
      const socket = connect(`${world.state}/loamd.sock`)
      socket.on('error', () => undefined)
      socket.resume()
      socket.write(upgrade + said)
      await new Promise((resolve) => socket.once('close', resolve))
    }
    const socket = connect(`${world.state}/loamd.sock`)
    socket.write(`${upgrade}{"args":`)
    socket.destroy()
    assert.equal((await loamHere('images')).status, 0)
  })

  test('a client with another root directory or mount namespace, or for another store, works by itself', async () => {
    const inNamespace = ['unshare', '--mount', '--propagation', 'private', LOAM]
    const cases: readonly (readonly [Options, readonly string[], RegExp])[] = [
      [{ program: inNamespace }, ['images'], /other namespaces/],
      [{ env: { NODE_EXTRA_CA_CERTS: '/nothing' } }, ['images'], /NODE_EXTRA_CA_CERTS/],
      [{}, ['--root', world.path('other-store'), 'images'], /serves the root/],
    ]
    for (const [options, args, why] of cases) {
      const required = await loam(world, options, '--json', ...args)
      const { code, message } = JSON.parse(
        required.stderr.split('\n').findLast((line) => line.startsWith('{')) ?? '',
      ).error
      assert.deepEqual([required.status, code], [1, 'DAEMON_UNAVAILABLE'])
      assert.match(message, why)
      const alone = await loam(world, { ...options, daemon: 'auto' }, ...args)
      assert.equal(alone.status, 0, alone.stderr)
    }
  })

  test('a socket that its user may not use causes a warning, and no failure', async () => {
    chmodSync(world.folder, 0o755)
    const asNobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', LOAM]
    const env = { HOME: world.path('nobody'), XDG_DATA_HOME: world.path('nobody') }
    const required = await loam(world, { program: asNobody, env }, 'images')
    assert.deepEqual([required.status, /connect: EACCES/.test(required.stderr)], [1, true], required.stderr)
    const alone = await loam(world, { program: asNobody, env, daemon: 'auto' }, '--help')
    assert.equal(alone.status, 0)
    assert.match(alone.stderr, /^loam: warning: the daemon at .* is not used: connect: EACCES\n$/)
  })

  test('two daemons serve one store, and a command asks the one of its state directory', async () => {
    const other = world.path('other-state')
    const places = ['--root', world.root, '--state', other, '--grpc-socket', world.path('other.sock')]
    const daemon = spawn(programPath('loamd'), places, { stdio: 'ignore' })
    try {
      await until(() => existsSync(`${other}/loamd.sock`), 'the other daemon listens')
      const states = [world.state, other]
      const ids = await Promise.all(
        states.map(async (state, index) =>
          loamHere('--state', state, 'provision', '--id', `of-${index}`, image),
        ),
      )
      assert.deepEqual(
        ids.map(({ status, stderr }) => [status, stderr.includes('error')]),
        [
          [0, false],
          [0, false],
        ],
      )
      for (const [index, state] of states.entries())
        assert.equal((await loamHere('--state', state, 'destroy', `of-${index}`)).stdout, `of-${index}\n`)
    } finally {
      const ended = new Promise((resolve) => daemon.once('close', resolve))
      daemon.kill()
      await ended
    }
  })

  test('a client of another version warns once, and works by itself', async () => {
    mkdirSync(world.path('packages/loam/bin'), { recursive: true })
    copyFileSync(LOAM, world.path('packages/loam/bin/loam.cjs'))
    writeFileSync(world.path('packages/loam/package.json'), '{"version":"9.9.9"}')
    const [source, built] = [
      new URL('../../../loam/src', import.meta.url),
      new URL('../dist', `file://${LOAM}`),
    ]
    if (process.env['INSTALLED_LOAM'] === undefined)
      symlinkSync(source.pathname, world.path('packages/loam/src'))
    else symlinkSync(built.pathname, world.path('packages/loam/dist'))
    const program = ['sh', world.path('packages/loam/bin/loam.cjs')]
    const { status, stderr } = await loam(world, { program, daemon: 'auto' }, 'images')
    assert.equal(status, 0, stderr)
    assert.match(
      stderr,
      /^loam: warning: the daemon at .* is not used: it has version .*, and this is 9\.9\.9\n$/,
    )
    assert.equal((await loam(world, { program }, 'images')).status, 1)
  })

  test('an unknown value of --daemon is a usage error', async () => {
    const { status, stderr } = await loamHere('--daemon', 'perhaps', 'images')
    assert.deepEqual(
      [status, stderr],
      [2, 'loam: read --daemon: "perhaps" is not one of auto, never, require\n'],
    )
  })

  // These end the daemon.
  test('when the daemon is killed, its command fails, and its container continues and is cleaned up', async () => {
    const asked = Promise.withResolvers<void>()
    registry.addImage('last', '1', buildImage({ tars: [buildTar([{ name: 'last', data: 'x' }])] }))
    registry.intercept = ({ url = '' }) => {
      if (url.includes('/last/blobs/')) asked.resolve()
      return url.includes('/last/blobs/')
    }
    const container = start(world, {}, 'run', '--id', 'going', image, 'sh', '-c', 'echo up; cat; exit 5')
    const ended = resultOf(container)
    await new Promise((resolve) => container.stdout?.once('data', resolve))
    const pull = loam(world, {}, '--json', 'pull', `${registry.host}/last:1`)
    await asked.promise
    await world.stop('loamd', 'SIGKILL')
    const { status, stderr } = await pull
    assert.deepEqual([status, JSON.parse(stderr).error.code], [1, 'DAEMON_LOST'])
    container.stdin?.end('still here')
    const { status: exit, stdout, stderr: told } = await ended
    assert.deepEqual([exit, stdout], [5, 'up\nstill here'])
    assert.match(told, /warning: the daemon ended while the container ran/)
    registry.intercept = () => false
    // The socket is there, and nobody listens.
    assert.match((await loamHere('images')).stderr, /connect: ECONNREFUSED/)
    const alone = await loam(world, { daemon: 'auto' }, '--json', 'ps')
    assert.deepEqual([alone.status, alone.stdout.trim(), alone.stderr], [0, '[]', ''])
    assert.equal((await loam(world, { daemon: 'auto' }, 'pull', image)).status, 0)
    rmSync(`${world.state}/loamd.sock`)
    assert.match((await loamHere('images')).stderr, /there is no such socket/)
  })
})
