// The daemon as a service: units, notifications, the watchdog, passed sockets, collection of images.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { Agent } from 'node:http'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { NotifySocket } from '../../../loam/test/support/notify-socket.ts'
import { buildImage, buildTar, RegistryServer } from '../../../loam/src/testing/index.ts'
import { callGrpc } from '../../../loam/src/nodes/grpc-call.ts'
import { Client } from '../support/client.ts'
import { get, post } from '../support/http.ts'
import { DaemonWorld, LOAMD, must, ok, until } from '../support/world.ts'

/** Settings that give a service a mount namespace of its own (systemd.exec(5)), in which its mounts would be invisible to the machine. */
const MOUNT_NAMESPACE =
  /^(?:Protect(?!KernelOops)\w+|Private(?!Users)\w+|(?:Read(?:Only|Write)|Inaccessible|Exec|NoExec)Paths|Bind\w*|Root\w+|TemporaryFileSystem|MountImages|ExtensionImages|MountFlags|ProcSubset|LogNamespace|DynamicUser|RuntimeDirectory|StateDirectory)=/m

const OPERATIONS = fileURLToPath(new URL('../../../../docs/operations.md', import.meta.url))

function loamd(...args: readonly string[]) {
  return spawnSync(process.execPath, [LOAMD, ...args], { encoding: 'utf8' })
}

/** The processes that a process has started. */
function childrenOf(pid: number): string {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
}

/** Installs units with given options in a folder, and returns it. */
function installed(world: DaemonWorld, ...args: readonly string[]): string {
  const folder = world.path('units')
  mkdirSync(folder, { recursive: true })
  ok(loamd('install', '--directory', folder, ...args))
  return folder
}

describe('units', () => {
  test('systemd accepts the units that install writes, with strange paths, too', async () => {
    await using world = new DaemonWorld()
    const strange = world.path('a b%h$HOME"\'\\')
    for (const args of [[], ['--root', strange, '--state', strange, '--socket-group', 'root']]) {
      const folder = installed(world, ...args, '--force')
      const units = readdirSync(folder).map((name) => `${folder}/${name}`)
      assert.equal(units.length, 4)
      const { status, stderr } = spawnSync('systemd-analyze', ['verify', ...units], { encoding: 'utf8' })
      assert.deepEqual({ status, stderr }, { status: 0, stderr: '' })
    }
  })

  test('the service starts Node and the daemon by their real paths, restarts without a limit, and has no mount namespace', async () => {
    await using world = new DaemonWorld()
    const service = readFileSync(`${installed(world, '--root', '/srv/loam')}/loamd.service`, 'utf8')
    const [, command = ''] = /^ExecStart=(.*)$/m.exec(service) ?? []
    const [options = '', words = ''] = command.split(' -- ')
    const [node, ...ofNode] = options.split(' ')
    assert.ok(node !== undefined && existsSync(node))
    assert.deepEqual(ofNode, ['--max-semi-space-size=4'])
    assert.equal(must(node, '--version').trim(), process.version)
    assert.deepEqual(words.split(' '), [LOAMD, '--root=/srv/loam'])
    // A small Debian has no /bin/kill.
    for (const line of [
      "ExecReload=/bin/sh -c 'kill -HUP $$MAINPID'",
      'Restart=always',
      'StartLimitIntervalSec=0',
      'WatchdogSec=120',
      'Type=notify',
    ]) {
      assert.ok(service.split('\n').includes(line), line)
    }
    assert.doesNotMatch(service, MOUNT_NAMESPACE)
  })

  test('the documents say how exposed systemd finds the service', async () => {
    await using world = new DaemonWorld()
    const unit = `${installed(world)}/loamd.service`
    const report = must('systemd-analyze', 'security', '--offline=true', unit)
    const [, level] = /exposure level for loamd\.service: ([\d.]+)/.exec(report) ?? []
    assert.ok(readFileSync(OPERATIONS, 'utf8').includes(`from 9.8 to ${level}`), `it finds ${level}`)
  })

  test('the units mean the same without the variables of whoever installs them, which a warning names', async () => {
    await using world = new DaemonWorld()
    const units = world.path('units')
    const print = ['install', '--print', '--directory', units, '--state', '/run/other']
    const env = {
      ...process.env,
      LOAM_ROOT: '/srv/loam',
      LOAM_STATE: '/srv/state',
      LOAM_DISK_BUDGET: '1000000',
    }
    const { stdout, stderr } = spawnSync(process.execPath, [LOAMD, ...print], { encoding: 'utf8', env })
    assert.equal(stdout, ok(loamd(...print)).stdout)
    const named = [...stderr.matchAll(/^loamd: warning: (\w+) has no effect/gm)].map(([, name]) => name)
    // The flag counts, and not the variable.
    assert.deepEqual(named, ['LOAM_ROOT', 'LOAM_DISK_BUDGET'])
  })

  test('install shows the units without writing, and refuses to install without systemd', async (t) => {
    await using world = new DaemonWorld()
    const folder = world.path('units')
    mkdirSync(folder)
    const { stdout } = ok(loamd('install', '--print', '--directory', folder))
    for (const name of ['loamd.socket', 'loamd-api.socket', 'loamd-image-service.socket', 'loamd.service']) {
      assert.ok(stdout.includes(`# ${folder}/${name}\n`))
    }
    assert.deepEqual(readdirSync(folder), [])
    if (existsSync('/run/systemd/system')) return t.skip('systemd runs here')
    for (const command of ['install', 'uninstall']) {
      const { status, stderr } = loamd(command)
      assert.equal(status, 1)
      assert.match(stderr, /systemd does not run here\nhint: .*--print/)
    }
  })

  test('uninstall removes the files that install has written, and none that was changed since', async () => {
    await using world = new DaemonWorld()
    const folder = installed(world)
    writeFileSync(`${folder}/loamd.service`, '[Service]\nExecStart=/bin/true\n')
    const { status, stderr } = loamd('uninstall', '--directory', folder)
    assert.equal(status, 1)
    assert.match(stderr, /loamd\.service: changed since it was installed/)
    assert.equal(readdirSync(folder).length, 4)
    ok(loamd('uninstall', '--directory', folder, '--force'))
    assert.deepEqual(readdirSync(folder), [])
  })
})

describe('notifications', () => {
  test('the daemon notifies when it is ready, that it is alive, and when it stops', async () => {
    await using world = new DaemonWorld()
    using manager = new NotifySocket(world.path('notify'))
    await world.startDaemonWith({ NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '200000' })
    const pid = world.pidOf('loamd')
    const ready = await manager.waitFor(/^READY=1$/m)
    assert.equal(ready, `READY=1\nSTATUS=serving ${world.root}\nMAINPID=${pid}`)
    for (let count = 0; count < 3; count += 1) {
      await manager.waitFor(/^WATCHDOG=1$/, manager.messages.length)
    }
    assert.equal(await world.stop('loamd'), 0)
    await manager.waitFor(/^STOPPING=1$/m)
  })

  test('a daemon whose event loop is blocked sends nothing to the watchdog until it continues', async () => {
    await using world = new DaemonWorld()
    using manager = new NotifySocket(world.path('notify'))
    await world.startDaemonWith({ NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '200000' })
    await manager.waitFor(/^WATCHDOG=1$/)
    const pid = world.pidOf('loamd')
    process.kill(pid, 'SIGSTOP')
    await sleep(200)
    const { length } = manager.receive()
    await sleep(1000)
    assert.equal(manager.receive().length, length)
    process.kill(pid, 'SIGCONT')
    await manager.waitFor(/^WATCHDOG=1$/, length)
  })

  test('the daemon serves without a receiver of its notifications, and logs that once', async () => {
    await using world = new DaemonWorld()
    await world.startDaemonWith({ NOTIFY_SOCKET: world.path('absent'), WATCHDOG_USEC: '100000' })
    assert.equal((await get(world.apiSocket, '/v1/version')).status, 200)
    await sleep(500)
    const lines = readFileSync(world.log('loamd'), 'utf8').split('\n')
    assert.equal(lines.filter((line) => line.includes('notify the service manager')).length, 1)
  })
})

test('the daemon uses the sockets that a service manager passes, by their names, and leaves them where they are', async () => {
  await using world = new DaemonWorld()
  const [grpc, api, images] = [
    world.path('passed-grpc'),
    world.path('passed-api'),
    world.path('passed-images'),
  ]
  const listen = [api, grpc, images].flatMap((path) => ['--listen', path])
  listen.push('--fdname=api:snapshotter:image-service')
  const activator = spawn('systemd-socket-activate', [...listen, process.execPath, LOAMD, ...world.places], {
    stdio: 'ignore',
  })
  // It becomes the daemon.
  const ended = new Promise((resolve) => activator.once('close', resolve))
  try {
    await until(async () => existsSync(grpc), 'the sockets are there', 20)
    const client = new Client(grpc)
    assert.deepEqual(await client.list(), [])
    client.close()
    assert.equal((await get(api, '/v1/version')).status, 200)
    // No containerd answers behind it.
    assert.match(String(await callImages(images)), /status 14: /)
    const own = [world.socket, world.apiSocket, world.path('state', 'image-service.sock')]
    assert.deepEqual(
      own.filter((path) => existsSync(path)),
      [],
    )
  } finally {
    activator.kill()
    await ended
  }
  assert.deepEqual(
    [grpc, api, images].filter((path) => !existsSync(path)),
    [],
  )
})

test('the daemon collects images at the interval of image_gc_config', async () => {
  await using world = new DaemonWorld()
  await using server = await RegistryServer.start()
  const pull = async (name: string) => {
    // No layer in common: the collection of an image keeps a layer that the pull of another uses.
    server.addImage(name, '1', buildImage({ tars: [buildTar([{ name, data: 'a' }])] }))
    ok(await world.loamAsync('pull', '--insecure', server.host, `${server.host}/${name}:1`))
  }
  const none = async () => world.json('images').length === 0
  await pull('first')
  const config = world.path('config.toml')
  writeFileSync(
    config,
    `[image_gc_config]
image_disk_headroom = 0
image_disk_watch_interval = { nanoseconds = 300000000 }
stores = { docker = { high_bytes = 0 } }
`,
  )
  await world.startDaemon('--config', config)
  await until(none, 'the first image is collected', 50)
  await pull('second')
  await until(none, 'the second image is collected', 50)
  const log = () => readFileSync(world.log('loamd'), 'utf8')
  const line = /"message":"collected images","images":1/g
  await until(async () => log().match(line)?.length === 2, 'both collections are logged', 50)
})

test('status shows the store and the requests of the daemon, and exits with 3 if none answers', async () => {
  await using world = new DaemonWorld()
  const status = () => world.loam('--json', 'status')
  const isNot = (reason: string) => {
    const { status: code, stdout } = status()
    assert.deepEqual(
      { code, ...JSON.parse(stdout) },
      { code: 3, isRunning: false, socket: world.apiSocket, reason },
    )
  }
  isNot('no such socket')
  await world.startDaemon()
  const { startedAtMs, ...rest } = JSON.parse(ok(status()).stdout)
  assert.ok(startedAtMs > 0)
  assert.deepEqual(rest, {
    isRunning: true,
    version: '0.1.0',
    api: 'v1',
    root: world.root,
    state: world.state,
    pid: world.pidOf('loamd'),
    node: process.version,
    sockets: [
      { name: 'snapshotter', path: world.socket },
      { name: 'api', path: world.apiSocket },
      { name: 'image-service', path: world.path('state', 'image-service.sock') },
    ],
    requests: [],
  })
  assert.match(ok(world.loam('status')).stdout, /^store {6}\/.*\n(?:socket .*\n){3}requests {3}none/m)
  await world.stop('loamd', 'SIGKILL')
  isNot('nothing listens there')
})

describe('a daemon that takes over', () => {
  /** Calls both sockets again and again, until `stop` fires. Returns the number of answers; a failure fails it. */
  async function askAlways(world: DaemonWorld, stop: AbortSignal): Promise<number> {
    const client = new Client(world.socket)
    const agent = new Agent({ keepAlive: true })
    let count = 0
    for (; !stop.aborted; count += 1) {
      const answers = [
        get(world.apiSocket, '/v1/images', agent),
        get(world.apiSocket, '/v1/version'),
        client.list(),
      ]
      const [kept, fresh] = await Promise.all(answers)
      for (const answer of [kept, fresh]) assert.ok(answer !== undefined && 'status' in answer)
    }
    client.close()
    agent.destroy()
    return count
  }

  const pidNow = async (world: DaemonWorld) =>
    Number(JSON.parse((await get(world.apiSocket, '/v1/version')).body).pid)

  test('no request fails while one daemon takes over from another, and a pull in progress is finished by the old one', async () => {
    await using world = new DaemonWorld()
    await using server = await RegistryServer.start()
    const image = buildImage({ tars: [buildTar([{ name: 'a', data: 'a' }])] })
    server.addImage('slow', '1', image)
    const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>()
    const { promise: isAsked, resolve: asked } = Promise.withResolvers<void>()
    server.intercept = (request, response) => {
      if (!request.url?.includes('/blobs/')) return false
      asked()
      const answer = async () => {
        await mayGoOn
        server.answer(request, response)
      }
      void answer()
      return true
    }
    using manager = new NotifySocket(world.path('notify'))
    await world.startDaemonWith({ NOTIFY_SOCKET: manager.path })
    const old = world.pidOf('loamd')
    const pull = post(world.apiSocket, '/v1/images/pull', {
      image: `${server.host}/slow:1`,
      insecure: [server.host],
    })
    await Promise.race([isAsked, pull])
    const stop = new AbortController()
    const asking = askAlways(world, stop.signal)
    try {
      process.kill(old, 'SIGHUP')
      await manager.waitFor(/^RELOADING=1\nMONOTONIC_USEC=\d+$/m)
      const ready = await manager.waitFor(new RegExp(`^MAINPID=(?!${old}$)`, 'm'))
      const next = Number(/^MAINPID=(\d+)$/m.exec(ready)?.[1])
      await until(async () => (await pidNow(world)) === next, 'the new daemon answers', 50)
      await until(
        async () => readFileSync(world.log('loamd'), 'utf8').includes('"handed over"'),
        'the old one knows',
        50,
      )
      process.kill(old, 0)
      goOn()
      assert.equal((await pull).status, 200)
      stop.abort()
      assert.ok((await asking) > 0)
      assert.deepEqual(JSON.parse((await get(world.apiSocket, '/v1/images')).body).length, 1)
      process.kill(next, 'SIGTERM')
      await until(async () => !existsSync(`/proc/${next}`), 'the new daemon has ended', 50)
      assert.deepEqual([existsSync(world.socket), existsSync(world.apiSocket)], [false, false])
    } finally {
      stop.abort()
      goOn()
    }
  })

  test('SIGHUP reads the settings again; while they are invalid or name another store, the daemon continues with its own', async () => {
    await using world = new DaemonWorld()
    using manager = new NotifySocket(world.path('notify'))
    const config = world.path('config.toml')
    writeFileSync(config, '')
    await world.startDaemonWith({ NOTIFY_SOCKET: manager.path, LOAM_STATE: world.state }, '--config', config)
    const pid = world.pidOf('loamd')
    await manager.waitFor(/^READY=1$/m)
    const log = () => readFileSync(world.log('loamd'), 'utf8')
    const reload = async (text: string, process_: number, answer: RegExp) => {
      const { length } = manager.receive()
      writeFileSync(config, text)
      process.kill(process_, 'SIGHUP')
      return manager.waitFor(answer, length)
    }
    const failed = await reload('no_such_setting = 1\n', pid, /^READY=1$/m)
    assert.match(failed, /STATUS=serving .*; the last reload failed: .*unknown setting no_such_setting/)
    assert.match(log(), /"message":"reload","error":"read .*unknown setting no_such_setting/)
    assert.equal(await pidNow(world), pid)
    const text = 'docker_stall_timeout = "77secs"\nsocket_group = "root"\n'
    const ready = await reload(text, pid, new RegExp(`^MAINPID=(?!${pid}$)`, 'm'))
    const next = Number(/^MAINPID=(\d+)$/m.exec(ready)?.[1])
    await until(async () => (await pidNow(world)) === next, 'the new daemon answers', 50)
    const settings = JSON.parse((await get(world.apiSocket, '/v1/config')).body)
    const found = settings.find(({ name }: { name: string }) => name === 'fetcher_stall_timeout')
    assert.equal(found.value, 77_000)
    assert.match(log(), /"message":"reload socket_group"/)
    process.kill(next, 'SIGTERM')
    await until(async () => !existsSync(`/proc/${next}`), 'the new daemon has ended', 50)
  })

  test('SIGHUP while a daemon takes over is answered by that one, with the settings of then', async () => {
    await using world = new DaemonWorld()
    await world.startDaemon()
    const pid = world.pidOf('loamd')
    const log = () => readFileSync(world.log('loamd'), 'utf8')
    const count = (text: string) => log().split(text).length - 1
    process.kill(pid, 'SIGHUP')
    // Two signals that arrive at once are one.
    await until(async () => childrenOf(pid) !== '', 'the new daemon is started', 5)
    process.kill(pid, 'SIGHUP')
    await until(async () => count('"message":"handed over"') === 2, 'two daemons have taken over', 50)
    await until(async () => !existsSync(`/proc/${pid}`), 'the first one has ended', 50)
    assert.equal(count('"message":"serving"'), 3)
  })

  test('a daemon that takes over serves also when the one before it is killed meanwhile', async () => {
    await using world = new DaemonWorld()
    await world.startDaemon()
    const old = world.pidOf('loamd')
    process.kill(old, 'SIGHUP')
    await until(async () => childrenOf(old) !== '', 'the new daemon is started', 5)
    const next = Number(childrenOf(old))
    try {
      await world.stop('loamd', 'SIGKILL')
      assert.equal(await pidNow(world), next)
      assert.equal(await pidNow(world), next)
    } finally {
      process.kill(next, 'SIGTERM')
      await until(async () => !existsSync(`/proc/${next}`), 'the new daemon has ended', 50)
    }
  })

  test('a daemon continues when the one that should take over cannot start', async () => {
    await using world = new DaemonWorld()
    const config = world.path('config.toml')
    writeFileSync(config, '')
    await world.startDaemon('--config', config)
    const pid = world.pidOf('loamd')
    writeFileSync(config, 'metrics_address = "0.0.0.0:9464"\n')
    process.kill(pid, 'SIGHUP')
    const log = () => readFileSync(world.log('loamd'), 'utf8')
    await until(async () => log().includes('"message":"reload"'), 'it is logged', 50)
    assert.match(log(), /it ended with status 1 before it served/)
    assert.equal(await pidNow(world), pid)
    assert.equal(await world.stop('loamd'), 0)
  })
})

/** Calls the image service. Returns its error. */
async function callImages(socket: string): Promise<unknown> {
  return callGrpc(socket, '/runtime.v1.ImageService/ImageFsInfo', new Uint8Array()).catch(
    (error: unknown) => error,
  )
}
