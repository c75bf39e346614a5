// The main job on an embedded default, with no registry to reach: a registry in this process serves an image that is packed
// from this machine's own shell and its libraries; Loam pulls it over HTTP, makes a root filesystem, and runs a command in it, all without a daemon.
// Then loamd serves the same store, and makes further root filesystems.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { connectLoam, type RemoteLoam } from '../packages/loam/src/client/index.ts'
import { openLoam } from '../packages/loam/src/index.ts'
import { type BuildEntry, buildImage, buildTar, RegistryServer } from '../packages/loam/src/testing/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-demo-'))
let start = performance.now()

/** Prints a step and its duration. */
function step(what: string, result: string): void {
  const now = performance.now()
  console.log(`${what.padEnd(42)} ${`${(now - start).toFixed(1)} ms`.padStart(10)}   ${result}`)
  start = performance.now()
}

try {
  const image = buildImage({
    tars: [
      buildTar(shellEntries()),
      buildTar([{ name: 'etc/motd', data: 'Hello from a root filesystem made by Loam.\n' }]),
    ],
    config: {
      Cmd: ['/bin/sh', '-c', 'while read line; do echo "$line"; done < /etc/motd; echo "process $$ in $PWD"'],
      Env: ['DEMO=1'],
    },
  })
  step(
    "pack this machine's shell as an image",
    `${image.layers.length} layers, ${image.manifest.digest.slice(0, 19)}…`,
  )

  await using registry = await RegistryServer.start()
  registry.addImage('demo/shell', 'latest', image)
  const reference = `${registry.host}/demo/shell:latest`
  step('serve it from a registry in this process', reference)

  await using loam = await openLoam({
    flags: { root: join(folder, 'store'), state: join(folder, 'state') },
    env: process.env,
    file: null,
  })
  step('open a new store', join(folder, 'store'))

  const pulled = await loam.pull(reference)
  step('pull it over HTTP', `${pulled.image.layers.length} layers, every byte verified`)

  const first = await loam.provision(reference, { id: 'demo' })
  step('make a root filesystem', `${first.backend} at ${first.rootfsPath}`)

  await loam.provision(reference, { id: 'demo' })
  step('make a second one', 'nothing fetched, nothing unpacked')

  const status = await loam.run(reference, { id: 'demo-run' })
  step('run its command with runc', `status ${status}`)

  await using daemon = startDaemon()
  await using remote = await daemon.connect()
  step('start loamd on the same store', daemon.socket)

  await remote.provision(reference, { id: 'demo' })
  step('make a root filesystem by loamd', 'over its socket')

  await remote.provision(reference, { id: 'demo' })
  step('make a second one by loamd', 'one mount and two rows')

  await loam.destroy('demo')
  step('destroy the root filesystems', `${(await loam.containers.list()).length} containers left`)

  const { layers } = await loam.images.prune({ all: true })
  step('prune the store', `${layers.length} layers removed`)
  process.exitCode = status
} finally {
  rmSync(folder, { recursive: true, force: true })
}

interface RunningDaemon extends AsyncDisposable {
  readonly socket: string
  readonly connect: () => Promise<RemoteLoam>
}

/** Starts loamd as a process of its own. */
function startDaemon(): RunningDaemon {
  const program = fileURLToPath(new URL('../packages/loamd/bin/loamd.js', import.meta.url))
  const places = ['--root', join(folder, 'store'), '--state', join(folder, 'state')]
  const args = [...places, '--grpc-socket', join(folder, 'grpc.sock'), '--log-level', 'warn']
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'inherit', 'inherit'] })
  const socket = join(folder, 'state', 'loamd.sock')
  return {
    socket,
    connect: async () => connectTo(socket, child),
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill()
      await ended
    },
  }
}

async function connectTo(socket: string, child: ChildProcess): Promise<RemoteLoam> {
  for (;;) {
    try {
      return await connectLoam({ socket })
    } catch (error) {
      if (child.exitCode !== null) throw error
      await sleep(20)
    }
  }
}

/** The shell, the loader and the libraries it is linked with, each under its own path. */
function shellEntries(): BuildEntry[] {
  const shell = realpathSync('/bin/sh')
  const linked = execFileSync('ldd', [shell], { encoding: 'utf8' })
  const libraries = [...linked.matchAll(/(\/[^\s]+)/g)].map((match) => match[1] ?? '')
  const files = new Map([['/bin/sh', shell], ...libraries.map((path) => [path, realpathSync(path)] as const)])
  const folders = new Set([...files.keys()].flatMap((path) => ancestors(dirname(path))))
  return [
    ...[...folders].toSorted().map((path) => ({ name: `${path.slice(1)}/` })),
    ...[...files].map(([path, source]) => ({ name: path.slice(1), mode: 0o755, data: readFileSync(source) })),
    { name: 'etc/' },
    { name: 'etc/passwd', data: 'root:x:0:0:root:/:/bin/sh\n' },
  ]
}

function ancestors(path: string): string[] {
  return path === '/' ? [] : [...ancestors(dirname(path)), path]
}
