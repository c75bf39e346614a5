// Shared by the tests of the daemon: a registry, containerd with Loam as its snapshotter, and the daemon, in a temporary directory.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, truncateSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DebianRegistry } from '../../../loam/test/support/debian-registry.ts'
import { programPath } from '../../../loam/test/support/test-tools.ts'
import {
  busyboxEntries,
  type CommandResult,
  layoutOf,
  must,
  ok,
  World,
} from '../../../loam/test/support/world.ts'
import { buildImage, buildTar } from '../../../loam/src/testing/index.ts'
import { canConnect, hostPlatform } from '../../../loam/src/linux/index.ts'
import { containerdConfig } from '../../../loam/src/nodes/index.ts'
import { CONTAINERD_1, type ContainerdRelease } from './containerd-release.ts'
import { get } from './http.ts'

export { type CommandResult, must, ok } from '../../../loam/test/support/world.ts'
export const LOAMD = programPath('loamd')
const TIMEOUT_MS = 120_000
/** Each start of containerd's command takes a tenth of a second of a core. */
const CTR_PAUSE_MS = 300

/** A program that is started. */
interface ProgramOptions {
  readonly args: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

/** A request that the registry has answered. */
export interface RegistryAnswer {
  readonly path: string
  readonly status: number
  /** Whether it was Loam's. */
  readonly isLoam: boolean
}

/** A world with a daemon on its store, and with containerd and a registry once they are started. */
export class DaemonWorld extends World implements AsyncDisposable {
  readonly socket = this.path('loam.sock')
  /** Options for the paths of the store and the sockets. */
  readonly places = ['--root', this.root, '--state', this.state, '--grpc-socket', this.socket]
  /** Socket of Loam's own API. */
  readonly apiSocket = this.path('state', 'loamd.sock')
  readonly containerdConfig = this.path('containerd.toml')
  readonly containerdSocket = this.path('containerd.sock')
  readonly containerdRoot = this.path('containerd')
  readonly #release: ContainerdRelease
  readonly #children = new Map<string, ChildProcess>()
  #registry: DebianRegistry | undefined

  constructor(release = CONTAINERD_1) {
    super()
    this.#release = release
  }

  /** Starts the daemon, and waits until it listens. */
  async startDaemon(...args: readonly string[]): Promise<void> {
    await this.startDaemonWith({}, ...args)
  }

  /** Starts the daemon with additional variables in its environment, and waits until it listens. */
  async startDaemonWith(env: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<void> {
    this.startProgram('loamd', process.execPath, { args: [LOAMD, ...this.places, ...args], env })
    await until(
      async () => (await canConnect(this.socket)) && (await canConnect(this.apiSocket)),
      'loamd listens',
      50,
    )
  }

  /** Starts containerd with the configuration of the documents, without CRI. `more` is added. */
  async startContainerd(more = '', isDiffer = false): Promise<void> {
    const { cri } = this.#release
    await this.#startContainerd(`disabled_plugins = ${JSON.stringify(cri)}`, more, isDiffer)
  }

  /** Starts containerd with the configuration of the documents, and with CRI. `sandboxImage` runs in each pod. */
  async startContainerdWithPods(sandboxImage: string): Promise<void> {
    await this.#startContainerd('', this.#release.podLines(sandboxImage, this.path('cni')))
  }

  async #startContainerd(first: string, more: string, isDiffer = false): Promise<void> {
    const { version, programs } = this.#release
    const setup = { version, socket: this.socket, root: this.root, platform: hostPlatform(), isDiffer }
    writeFileSync(
      this.containerdConfig,
      `root = "${this.containerdRoot}"
state = "${this.path('containerd-state')}"
${first}
${containerdConfig({ ...setup, containerdRoot: this.containerdRoot })}
[grpc]
  address = "${this.containerdSocket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${this.path('containerd-opt')}"
${more}`,
    )
    const env = programs === undefined ? {} : { PATH: `${programs}:${process.env['PATH']}` }
    this.startProgram('containerd', this.#program('containerd'), {
      args: ['-c', this.containerdConfig, '-l', 'warn'],
      env,
    })
    await until(async () => this.ctr('version').status === 0, 'containerd answers')
  }

  /** Path of a program of this release of containerd. */
  #program(name: string): string {
    const { programs } = this.#release
    return programs === undefined ? name : join(programs, name)
  }

  /** Starts the daemon again, and waits until containerd has noticed: after a failure it retries only now and then. */
  async restartDaemon(...args: readonly string[]): Promise<void> {
    await this.startDaemon(...args)
    // containerd answers a list by itself if it knows of no snapshots.
    const snapshots = (...words: readonly string[]) =>
      this.ctr('snapshots', '--snapshotter', 'loam', ...words)
    await until(async () => snapshots('prepare', 'probe').status === 0, 'containerd reaches loamd')
    ok(snapshots('rm', 'probe'))
  }

  /** Starts Debian's registry, for one user if one is given as `USER:PASSWORD`; its log shows which client fetched which blob. */
  async startRegistry(account?: string): Promise<void> {
    const [user = '', password = ''] = account?.split(':') ?? []
    const path = this.path('htpasswd')
    if (account !== undefined) writeFileSync(path, must('htpasswd', '-Bbn', user, password))
    const auth = account === undefined ? {} : { auth: { htpasswd: { realm: 'test', path } } }
    const rest = { log: { level: 'error', accesslog: { disabled: false } }, ...auth }
    this.#registry = await DebianRegistry.start({ rest })
  }

  get registryHost(): string {
    return this.#registry?.host ?? ''
  }

  /** Starts a daemon that cannot serve, and returns its log. */
  tryDaemon(env: NodeJS.ProcessEnv): string {
    const options = { encoding: 'utf8', env: { ...process.env, ...env }, timeout: TIMEOUT_MS } as const
    return spawnSync(process.execPath, [LOAMD, ...this.places], options).stderr
  }

  /** Process of a program that was started. */
  pidOf(name: string): number {
    const pid = this.#children.get(name)?.pid
    if (pid === undefined) throw new Error(`${name} does not run`)
    return pid
  }

  /** Returns whether a process is one that was started here: a daemon that took over is none. */
  isChild(name: string, pid: number): boolean {
    return this.#children.get(name)?.pid === pid
  }

  /** Starts a program, which ends with this world at the latest. */
  startProgram(name: string, file: string, { args, env = {} }: ProgramOptions): void {
    const log = this.log(name)
    const child = spawn('/bin/sh', ['-c', 'exec "$@" >>"$LOG" 2>&1', 'sh', file, ...args], {
      stdio: 'ignore',
      env: { ...process.env, ...env, LOG: log },
    })
    this.#children.set(name, child)
  }

  /** File with the output of a program. */
  log(name: string): string {
    return this.path(`${name}.log`)
  }

  /** Ends a program, and waits for that. Returns its status, or the signal that ended it. */
  async stop(name: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    const child = this.#children.get(name)
    if (child === undefined) return null
    this.#children.delete(name)
    const ended = new Promise<number | NodeJS.Signals | null>((resolve) =>
      child.once('close', (status, by) => {
        resolve(status ?? by)
      }),
    )
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? child.signalCode
    child.kill(signal)
    return ended
  }

  ctr(...args: readonly string[]): CommandResult {
    return run(this.#program('ctr'), [...this.#containerd, ...args])
  }

  /** Runs containerd's program for another purpose. */
  containerd(...args: readonly string[]): CommandResult {
    return run(this.#program('containerd'), args)
  }

  /** The words of a command of containerd. */
  ctrCommand(...args: readonly string[]): string[] {
    return [this.#program('ctr'), ...this.#containerd, ...args]
  }

  /** Runs a command in a namespace of containerd's; undefined for that of this world. */
  ctrIn(namespace: string | undefined, ...args: readonly string[]): CommandResult {
    if (namespace === undefined) return this.ctr(...args)
    return run(this.#program('ctr'), ['--address', this.containerdSocket, '--namespace', namespace, ...args])
  }

  ctrRemote(...args: readonly string[]): CommandResult {
    return run('ctr-remote', [...this.#containerd, ...args])
  }

  /** runc's state is in a directory of the machine for each namespace: two worlds with one namespace see each other's containers. */
  get #containerd(): string[] {
    return ['--address', this.containerdSocket, '--namespace', basename(this.folder)]
  }

  /** A test that fails may leave containers, which outlive containerd. */
  async #endTasks(): Promise<void> {
    if (!this.#children.has('containerd')) return
    for (const id of this.ctr('tasks', 'ls', '-q').stdout.split('\n').filter(Boolean)) {
      this.ctr('tasks', 'kill', '--signal', 'SIGKILL', id)
      await until(async () => this.ctr('tasks', 'rm', id).status === 0, `${id} has ended`)
    }
    rmSync(join('/run/containerd/runc', basename(this.folder)), { recursive: true, force: true })
  }

  /** A daemon that took over from the one that was started here: a test that fails leaves it. */
  async #endSuccessor(): Promise<void> {
    if (!(await canConnect(this.apiSocket))) return
    const { pid } = JSON.parse((await get(this.apiSocket, '/v1/version')).body)
    process.kill(pid, 'SIGKILL')
    await until(async () => !existsSync(`/proc/${pid}`), 'the other daemon has ended', 50)
  }

  /** Paths that clients have asked the registry for, since this was asked last. */
  takeRequests(): string[] {
    return this.takeAnswers().map(({ path }) => path)
  }

  /** The same with the answers of the registry. */
  takeAnswers(): RegistryAnswer[] {
    const log = this.#registry?.log
    if (log === undefined) return []
    const text = readFileSync(log, 'utf8')
    truncateSync(log)
    const lines = text.matchAll(/"(?:GET|HEAD) (\S+) HTTP\/\S+" (\d+) \d+ "[^"]*" "([^"]*)"/g)
    return [...lines].map(([, path = '', status, agent = '']) => ({
      path,
      status: Number(status),
      isLoam: agent.startsWith('loam'),
    }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#endTasks()
    } finally {
      for (const name of ['dockerd', 'containerd', 'loamd']) await this.stop(name)
      await this.#endSuccessor()
      this.#registry?.[Symbol.dispose]()
      super[Symbol.dispose]()
    }
  }
}

function run(file: string, args: readonly string[]): CommandResult {
  const { status, stdout, stderr } = spawnSync(file, args, {
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    maxBuffer: 64 << 20,
  })
  return { status, stdout, stderr }
}

export async function until(
  isSo: () => Promise<boolean>,
  what: string,
  pauseMs = CTR_PAUSE_MS,
): Promise<void> {
  // Far more than it needs, also on a busy machine.
  for (const end = Date.now() + TIMEOUT_MS; Date.now() < end; await sleep(pauseMs)) {
    if (await isSo()) return
  }
  throw new Error(`waited in vain until ${what}`)
}

/** Exports an image of containerd. ctr 2.1 may end before it has written the end of its file: then it is exported again. */
export async function exportArchive(world: DaemonWorld, archive: string, image: string): Promise<void> {
  await until(async () => {
    ok(world.ctr('images', 'export', archive, image))
    const { status, stdout } = spawnSync('tar', ['-tf', archive], { encoding: 'utf8' })
    // Two blocks of zeros end a tar.
    const end = readFileSync(archive).subarray(-1024)
    return Promise.resolve(status === 0 && stdout.includes('oci-layout') && end.every((byte) => byte === 0))
  }, 'the archive is complete')
}

/** Pushes an image of two layers with a shell: the second removes a file and changes one. */
export function pushImage(
  world: DaemonWorld,
  name: string,
  { command, account }: { readonly command?: readonly string[]; readonly account?: string } = {},
): void {
  const folders = ['tmp/', 'proc/', 'sys/', 'dev/', 'etc/']
  const base = buildTar([
    ...busyboxEntries(['sh', 'cat', 'ls', 'sleep']),
    ...folders.map((folder) => ({ name: folder })),
    { name: 'etc/hello', data: 'one\n' },
    { name: 'etc/gone', data: 'x\n' },
  ])
  const top = buildTar([
    { name: 'etc/' },
    { name: 'etc/hello', data: `${name}\n` },
    { name: 'etc/.wh.gone', data: '' },
  ])
  const config = { Cmd: command ?? ['/bin/sh', '-c', 'cat /etc/hello; ls /etc'], Env: ['PATH=/bin'] }
  const image = layoutOf(world, buildImage({ tars: [base, top], config }), 'oci')
  const target = `docker://${world.registryHost}/${name}`
  const login = account === undefined ? [] : ['--dest-creds', account]
  must('skopeo', 'copy', '--quiet', '--insecure-policy', '--dest-tls-verify=false', ...login, image, target)
}
