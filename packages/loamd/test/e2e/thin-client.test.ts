// The client of the daemon with a socket that is not a daemon's, or whose daemon ends at a bad moment.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, type SpawnOptions, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { programPath } from '../../../loam/test/support/test-tools.ts'

/** A listener in place of the daemon's; it returns what it received. */
class FakeDaemon implements AsyncDisposable {
  readonly state = mkdtempSync(join(tmpdir(), 'loam-fake-'))
  connections = 0
  readonly #server = createServer((socket) => {
    this.connections += 1
    socket.on('error', () => socket.destroy())
    this.#onConnection(socket)
  })
  readonly #onConnection: (socket: Socket) => void

  constructor(onConnection: (socket: Socket) => void) {
    this.#onConnection = onConnection
  }

  get socket(): string {
    return join(this.state, 'loamd.sock')
  }

  async listen(path = this.socket): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.listen(path, resolve)
    await promise
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => {
      resolve()
    })
    await promise
    rmSync(this.state, { recursive: true })
  }
}

const ACCEPTED = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: loam-command\r\n\r\n'

/** Accepts the connection of a command, and answers the request with messages. */
function answering(...messages: readonly unknown[]): (socket: Socket) => void {
  return (socket) => {
    socket.once('data', () => {
      socket.write(ACCEPTED)
      socket.once('data', () => {
        for (const message of messages) socket.write(`${JSON.stringify(message)}\n`)
      })
    })
  }
}

function start(args: readonly string[], options: SpawnOptions = {}): ChildProcess {
  return spawn(programPath('loam'), args, { stdio: ['ignore', 'ignore', 'pipe'], ...options })
}

interface Result {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
}

async function resultOf(child: ChildProcess): Promise<Result> {
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const { promise, resolve } = Promise.withResolvers<Omit<Result, 'stderr'>>()
  child.once('close', (status, signal) => {
    resolve({ status, signal })
  })
  return { ...(await promise), stderr }
}

async function loam(state: string, ...args: readonly string[]): Promise<Result> {
  return resultOf(start(['--state', state, '--daemon', 'require', ...args]))
}

test('a socket of another user gets nothing from the client', async () => {
  await using daemon = new FakeDaemon((socket) => socket.destroy())
  await daemon.listen()
  chownSync(daemon.socket, 12_345, 12_345)
  const { status, stderr } = await loam(daemon.state, 'images')
  assert.deepEqual([status, daemon.connections], [1, 0])
  assert.match(stderr, /loamd\.sock belongs to user 12345/)
})

test('a socket that this user may not look at is told, and is not taken for none', async () => {
  await using daemon = new FakeDaemon(answering({ exit: 0 }))
  await daemon.listen()
  const home = mkdtempSync(join(tmpdir(), 'loam-home-'))
  chownSync(home, 65_534, 65_534)
  const asNobody = async (mode: string, state: string) => {
    const words = ['--reuid', '65534', '--regid', '65534', '--clear-groups', programPath('loam')]
    const args = [...words, '--state', state, '--daemon', mode, 'images']
    const env = { PATH: process.env['PATH'], HOME: home, LOAM_USER_NAMESPACE: 'never' }
    return resultOf(spawn('setpriv', args, { stdio: ['ignore', 'ignore', 'pipe'], env, cwd: '/' }))
  }
  try {
    const required = await asNobody('require', daemon.state)
    assert.equal(required.status, 1)
    assert.match(required.stderr, /not for this user \(EACCES\)\nhint: Leave out --daemon require/)
    const alone = await asNobody('auto', daemon.state)
    assert.match(
      alone.stderr,
      /^loam: warning: the daemon at .* is not used: its socket is not for this user/,
    )
    const absent = await asNobody('require', home)
    assert.match(absent.stderr, /there is no such socket\nhint: Start loamd/)
    assert.equal((await asNobody('auto', home)).stderr, '')
  } finally {
    rmSync(home, { recursive: true })
  }
})

test('the hint to start a daemon is for those who have none', async () => {
  for (const [why, hint] of [
    ['process', /hint: Leave out --daemon require: then this process runs the command\.\n/],
    ['version', /hint: Leave out/],
    ['store', /hint: Start loamd with the same --root and --state/],
  ] as const) {
    await using daemon = new FakeDaemon(answering({ self: { why, text: 'because' } }))
    await daemon.listen()
    const { status, stderr } = await loam(daemon.state, 'save', 'busybox')
    assert.equal(status, 1)
    assert.match(stderr, hint)
  }
})

test('a result that cannot be written is the same error with a daemon and without one', async () => {
  await using daemon = new FakeDaemon(answering({ out: 'x\n' }))
  await daemon.listen()
  const root = join(daemon.state, 'store')
  const errorOf = async (json: string, ...mode: readonly string[]) => {
    const full = openSync('/dev/full', 'w')
    const child = start(['--root', root, '--state', daemon.state, ...mode, json, 'images'], {
      stdio: ['ignore', full, 'pipe'],
    })
    closeSync(full)
    const { status, stderr } = await resultOf(child)
    assert.equal(status, 1)
    return json === '--json' ? JSON.parse(stderr) : stderr
  }
  for (const json of ['--json', '--progress=plain'])
    assert.deepEqual(await errorOf(json, '--daemon=require'), await errorOf(json, '--daemon=never'))
})

test('a socket gets nothing from the client if other users may replace it', async () => {
  await using daemon = new FakeDaemon(answering({ exit: 0 }))
  await daemon.listen()
  for (const [mode, why] of [
    [0o777, /other users may write to /],
    [0o770, /other users may write to /],
    [0o1777, undefined],
    [0o700, undefined],
  ] as const) {
    chownSync(daemon.state, 0, 12_345)
    chmodSync(daemon.state, mode)
    const { status, stderr } = await loam(daemon.state, 'images')
    assert.deepEqual([mode, status], [mode, why === undefined ? 0 : 1], stderr)
    if (why !== undefined) assert.match(stderr, why)
  }
  assert.equal(daemon.connections, 2)
  chownSync(daemon.state, 12_345, 0)
  assert.match((await loam(daemon.state, 'images')).stderr, /belongs to user 12345/)
  assert.equal(daemon.connections, 2)
})

test('a user without a home has no socket below the working directory', async () => {
  await using daemon = new FakeDaemon(answering({ exit: 0 }))
  const folder = join(daemon.state, 'undefined/.local/share/loam/state')
  mkdirSync(folder, { recursive: true })
  await daemon.listen(join(folder, 'loamd.sock'))
  for (const path of [daemon.state, join(folder, 'loamd.sock')]) chownSync(path, 12_345, 12_345)
  const child = start(['--daemon', 'require', 'images'], {
    uid: 12_345,
    gid: 12_345,
    cwd: daemon.state,
    env: { PATH: process.env['PATH'] },
  })
  const { status, stderr } = await resultOf(child)
  assert.deepEqual([status, daemon.connections], [1, 0])
  assert.match(stderr, /use the daemon at \/run\/loam\/loamd\.sock: /)
})

test('the socket is looked up by the settings of the state directory, in their order', async () => {
  await using daemon = new FakeDaemon(answering({ exit: 0 }))
  const { state } = daemon
  mkdirSync(join(state, 'loam'))
  await daemon.listen(join(state, 'loam/loamd.sock'))
  const config = join(state, 'config.toml')
  writeFileSync(config, `runtime_dir = '${state}'\n`)
  const other = ['--runtime_dir', '/nowhere']
  for (const [args, env, isFound] of [
    [['--runtime-dir', state], {}, true],
    [[`--runtime_dir=${state}`], {}, true],
    [[], { LOAM_RUNTIME_DIR: state }, true],
    [['--config', config], {}, true],
    [[...other, '--state', `${state}/loam`], {}, true],
    [[...other, '--config', config], {}, false],
    [['--runtime_dir', state], { LOAM_STATE: '/nowhere' }, false],
  ] as const) {
    const child = start(['--daemon', 'require', ...args, 'images'], { env: { ...process.env, ...env } })
    const { status, stderr } = await resultOf(child)
    assert.equal(status, isFound ? 0 : 1, `${JSON.stringify([args, env])} ${stderr}`)
  }
})

test('a configuration file that is a pipe or a device is not waited for', async () => {
  await using daemon = new FakeDaemon(answering({ exit: 0 }))
  await daemon.listen()
  const pipe = join(daemon.state, 'pipe')
  assert.equal(spawnSync('mkfifo', [pipe]).status, 0)
  for (const config of [pipe, '/dev/zero', daemon.state]) {
    const child = start(['--daemon', 'require', '--config', config, 'images'], {
      env: { ...process.env, LOAM_STATE: undefined, LOAM_RUNTIME_DIR: undefined },
    })
    const { status, stderr } = await resultOf(child)
    assert.equal(status, 1, config)
    assert.match(stderr, /DAEMON_UNAVAILABLE|use the daemon at/)
  }
})

test('a command is sent only to a daemon that has accepted it', async () => {
  let told = ''
  await using daemon = new FakeDaemon((socket) => {
    socket.on('data', (chunk: Buffer) => {
      told += chunk.toString()
      if (told.includes('\r\n\r\n')) setTimeout(() => socket.destroy(), 100)
    })
  })
  await daemon.listen()
  const { status, stderr } = await loam(daemon.state, 'images')
  assert.equal(status, 1)
  assert.match(stderr, /it closed the connection/)
  assert.match(told, /^POST \/v1\/command HTTP\/1\.1\r\n[^{]*\r\n\r\n$/)
})

test('a client that cannot identify itself works without the daemon', async () => {
  await using daemon = new FakeDaemon(answering({ exit: 0 }))
  await daemon.listen()
  const cwd = join(daemon.state, 'removed')
  mkdirSync(cwd)
  const child = spawn(
    '/bin/sh',
    [
      '-c',
      `cd ${cwd} && rmdir ${cwd} && exec "$@"`,
      'sh',
      programPath('loam'),
      '--state',
      daemon.state,
    ].concat(['--daemon', 'require', 'images']),
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const { status, stderr } = await resultOf(child)
  assert.deepEqual([status, daemon.connections], [1, 0])
  assert.match(stderr, /loam: use the daemon at .*: tell what this process is: ENOENT/)
})

test('the words of a container are not options of the client, also after an option without a value', async () => {
  await using daemon = new FakeDaemon(answering({ exit: 0 }))
  await daemon.listen()
  for (const words of [
    ['run', '--keep', 'redis', '--daemon', 'off'],
    ['run', '--user', '7', '--no-docker-ignore-runtime', 'redis', '--state', '/nowhere'],
  ]) {
    const { status, stderr } = await loam(daemon.state, ...words)
    assert.equal(status, 0, stderr)
  }
  assert.equal(daemon.connections, 2)
})

test('a signal that comes when the container has ended ends the client', async () => {
  const run = { file: '/bin/true', args: [], env: {}, cleanUp: [] }
  const ended = Promise.withResolvers<void>()
  await using daemon = new FakeDaemon((socket) => {
    answering({ run })(socket)
    socket.on('data', (chunk: Buffer) => {
      if (chunk.includes('{"status":0}')) ended.resolve()
    })
  })
  await daemon.listen()
  const child = start(['--state', daemon.state, '--daemon', 'require', 'run', 'image'])
  const result = resultOf(child)
  await ended.promise
  child.kill('SIGTERM')
  assert.deepEqual(await result, { status: null, signal: 'SIGTERM', stderr: '' })
})

test('the status of a container counts, even if the daemon ends right after it has received it', async () => {
  const run = { file: '/bin/sh', args: ['-c', 'exit 7'], env: {}, cleanUp: [] }
  await using daemon = new FakeDaemon((socket) => {
    answering({ run })(socket)
    socket.on('data', (chunk: Buffer) => {
      if (chunk.includes('{"status":7}')) socket.destroy()
    })
  })
  await daemon.listen()
  const { status, stderr } = await loam(daemon.state, 'run', 'image')
  assert.equal(status, 7, stderr)
})
