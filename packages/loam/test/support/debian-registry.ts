// Debian's docker-registry for tests: on a port that the kernel chooses, which is read from the process itself, so that no other
// program's port is ever taken for it.
import { type ChildProcess, spawn } from 'node:child_process'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import type { Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { removeTree } from './remove-tree.ts'

const START_LIMIT_MS = 120_000

export interface RegistryOptions {
  /** Fields of `http` in its configuration, in addition to the address. */
  readonly http?: Record<string, unknown>
  /** Other sections of its configuration. */
  readonly rest?: Record<string, unknown>
}

/** A registry with a folder of its own. */
export class DebianRegistry implements Disposable {
  readonly host: string
  readonly port: number
  /** Its log; with `rest.log.accesslog`, also each client's requests. */
  readonly log: string
  readonly #folder: string
  readonly #child: ChildProcess

  private constructor(port: number, folder: string, child: ChildProcess) {
    this.port = port
    this.host = `127.0.0.1:${port}`
    this.log = join(folder, 'log')
    this.#folder = folder
    this.#child = child
  }

  /** Starts a registry and waits until it listens. Nothing of it is left if that fails. */
  static async start({ http = {}, rest = {} }: RegistryOptions = {}): Promise<DebianRegistry> {
    using started = new DisposableStack()
    const folder = mkdtempSync(join(tmpdir(), 'loam-registry-'))
    started.defer(() => {
      removeTree(folder)
    })
    const config = {
      version: '0.1',
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: join(folder, 'data') } },
      http: { addr: '127.0.0.1:0', ...http },
      ...rest,
    }
    // JSON is YAML.
    writeFileSync(join(folder, 'config.yml'), JSON.stringify(config))
    const log = openSync(join(folder, 'log'), 'a')
    const child = spawn('docker-registry', ['serve', join(folder, 'config.yml')], {
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    started.defer(() => child.kill('SIGKILL'))
    const port = await waitForPort(child, join(folder, 'log'))
    started.move()
    return new DebianRegistry(port, folder, child)
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
    removeTree(this.#folder)
  }
}

async function waitForPort(child: ChildProcess, log: string): Promise<number> {
  const why = () => readFileSync(log, 'utf8').slice(-2000)
  let failure: string | undefined
  child.once('error', (error) => {
    failure = String(error)
  })
  for (const end = Date.now() + START_LIMIT_MS; Date.now() < end; await sleep(20)) {
    if (failure !== undefined || child.exitCode !== null)
      throw new Error(`docker-registry ended: ${failure ?? ''} ${why()}`)
    const [port] = child.pid === undefined ? [] : listeningPorts(child.pid)
    if (port !== undefined) return port
  }
  throw new Error(`docker-registry does not listen after ${START_LIMIT_MS / 1000} s: ${why()}`)
}

/** Makes a server listen, on a free port unless one is given, and returns the port. Rejects if it cannot. */
export async function listen(server: Server, host = '127.0.0.1', port = 0): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen(port, host, resolve)
  await promise
  const address = server.address()
  return address === null || typeof address === 'string' ? port : address.port
}

/** Lists the ports of TCP that a process listens on (proc_pid_fd(5), proc_net_tcp(5)); none of one that has ended. */
function listeningPorts(pid: number): number[] {
  const LISTENING = '0A'
  try {
    const inodes = new Set(
      readdirSync(`/proc/${pid}/fd`).map(
        (fd) => /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1],
      ),
    )
    return ['tcp', 'tcp6'].flatMap((table) =>
      readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
        .split('\n')
        .map((line) => line.trim().split(/\s+/))
        .filter((fields) => fields[3] === LISTENING && inodes.has(fields[9]))
        .map((fields) => Number.parseInt(fields[1]?.split(':').at(-1) ?? '', 16)),
    )
  } catch {
    // The process has ended, or closed the descriptor.
    return []
  }
}
