// Shared by the end-to-end tests: the command as users run it, Debian's registry, and temporary directories.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, realpathSync, renameSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CommandResult, runCommand, runCommandAsync } from './commands.ts'
import type { Failure, JsonResults, Provisioned } from './json-results.ts'
import { TestDaemon, THROUGH_DAEMON } from './test-daemon.ts'
import { removeTree } from './remove-tree.ts'
import { programPath, testTool } from './test-tools.ts'

export type { CommandResult } from './commands.ts'
export type { Failure, Provisioned } from './json-results.ts'
export { DebianRegistry, listen } from './debian-registry.ts'
import { type BuildEntry, type BuiltImage, writeOciLayout } from '../../src/testing/index.ts'

const BIN = programPath('loam')
const COMMAND_TIMEOUT_MS = 120_000
/** Real images, beside the project; not part of it. */
export const SHARED_IMAGES = fileURLToPath(new URL('../../../../../shared/images', import.meta.url))

/** Collects the output of a stream; the returned function returns all of it so far. */
export function gather(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  return () => Buffer.concat(chunks).toString('utf8')
}

/** A store with a folder of its own, and the command on it. */
export class World implements Disposable {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-')))
  readonly root = join(this.folder, 'store')
  readonly state = join(this.folder, 'state')
  /** Runs the commands, if the tests run through a daemon. */
  #daemon: TestDaemon | undefined

  /** Returns a path in this world's folder. */
  path(...parts: readonly string[]): string {
    return join(this.folder, ...parts)
  }

  /** Arguments of Node for the command on this store, for tests that start it in their own way. */
  args(...args: readonly string[]): string[] {
    return [BIN, ...this.#words(args)]
  }

  #words(args: readonly string[]): string[] {
    if (THROUGH_DAEMON) this.#daemon ??= new TestDaemon(this.folder, this.root, this.state)
    return ['--root', this.root, '--state', this.state, ...args]
  }

  /** Runs the command to its end: see commands.ts. */
  loam(...args: readonly string[]): CommandResult {
    return THROUGH_DAEMON ? this.loamProcess({}, ...args) : runCommand(this.#words(args))
  }

  /** Runs a command with --json, which has to succeed, and returns its result. */
  json<Name extends keyof JsonResults>(name: Name, ...args: readonly string[]): JsonResults[Name] {
    return JSON.parse(ok(this.loam('--json', name, ...args)).stdout)
  }

  /** Runs a command with --json, which has to fail, and returns its error. */
  failure(...args: readonly string[]): Failure {
    const { status, stdout, stderr } = this.loam('--json', ...args)
    if (status === 0) throw new Error(`it did not fail: ${args.join(' ')}: ${stdout}`)
    return JSON.parse(stderr).error
  }

  /** Runs the command with additional variables in its environment. */
  loamWith(env: NodeJS.ProcessEnv, ...args: readonly string[]): CommandResult {
    return THROUGH_DAEMON ? this.loamProcess({ env }, ...args) : runCommand(this.#words(args), env)
  }

  /** Runs the command in the background. */
  async loamAsync(...args: readonly string[]): Promise<CommandResult> {
    return THROUGH_DAEMON ? runProcess(this.args(...args)) : runCommandAsync(this.#words(args))
  }

  /** Runs the command to its end in a process of its own, with additional variables or with an input. */
  loamProcess(
    options: { env?: NodeJS.ProcessEnv; input?: string },
    ...args: readonly string[]
  ): CommandResult {
    const { status, stdout, stderr } = spawnSync(process.execPath, this.args(...args), {
      encoding: 'utf8',
      env: { ...process.env, ...options.env },
      input: options.input ?? '',
      timeout: COMMAND_TIMEOUT_MS,
      maxBuffer: 64 << 20,
    })
    return { status, stdout, stderr }
  }

  /** Mount points below this world's folder. */
  mounts(): string[] {
    return readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(this.folder))
  }

  /** Mount points of root filesystems, without shared ones. */
  rootfsMounts(): string[] {
    return this.mounts().filter((path) => path.startsWith(this.root))
  }

  /** Unfinished work and garbage in the store. A daemon keeps an empty directory for its own. */
  leftovers(): string[] {
    const depth = THROUGH_DAEMON ? '2' : '1'
    return ['ingest', 'trash'].flatMap((name) =>
      execFileSync('find', [join(this.root, name), '-mindepth', depth, '-maxdepth', depth], {
        encoding: 'utf8',
      })
        .split('\n')
        .filter(Boolean),
    )
  }

  [Symbol.dispose](): void {
    try {
      this.#daemon?.[Symbol.dispose]()
    } finally {
      this.#remove()
    }
  }

  #remove(): void {
    for (const path of this.mounts().toReversed()) spawnSync('umount', ['-l', path])
    removeTree(this.folder)
  }
}

/** Runs a program of Node in the background. */
async function runProcess(args: readonly string[]): Promise<CommandResult> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr] = [gather(child.stdout), gather(child.stderr)]
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  return { status: await promise, stdout: stdout(), stderr: stderr() }
}

/** Returns the output of a command that has to succeed. */
export function ok<T extends CommandResult>(result: T): T {
  if (result.status !== 0) throw new Error(`status ${result.status}: ${result.stderr}${result.stdout}`)
  return result
}

/** Runs a program that has to succeed. */
export function must(file: string, ...args: readonly string[]): string {
  return execFileSync(file, args, {
    encoding: 'utf8',
    maxBuffer: 256 << 20,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** Writes an OCI layout with an image in a folder of the world. Returns its reference. */
export function layoutOf(world: World, image: BuiltImage, folder = 'layout'): string {
  const layout = world.path(folder)
  writeOciLayout(layout, { x: image })
  return `oci:${layout}:x`
}

/** Entries of a tar with this machine's busybox under the given names. */
export function busyboxEntries(applets: readonly string[]): BuildEntry[] {
  const data = readFileSync(must('which', 'busybox').trim())
  return [
    { name: 'bin/' },
    { name: 'bin/busybox', mode: 0o755, data },
    ...applets.map((name) => ({ name: `bin/${name}`, type: 'symlink' as const, linkName: 'busybox' })),
  ]
}

/** Returns the folder of the real images; undefined, with a message, if it is absent. */
export function sharedImages(): string | undefined {
  if (existsSync(SHARED_IMAGES)) return SHARED_IMAGES
  console.log(`the real images are not here (${SHARED_IMAGES}): their tests are skipped`)
  return undefined
}

/** Creates a Debian root once for all tests of a checkout, of unpacked packages that are not configured. Debian's packages are needed. */
export function debianTar(): string {
  const path = testTool('debian.tar')
  if (existsSync(path)) return path
  // Several processes may create it at once: each its own, and the last one stays.
  const own = `${path}.${process.pid}.tar`
  must('mmdebstrap', '--quiet', '--variant=extract', '--include=?essential', 'bookworm', own)
  renameSync(own, path)
  return path
}

/** Creates a CA and a server certificate for localhost and an address, signed by it, for two days from a time on: ca.crt, server.crt, server.key. */
export function createCertificates(folder: string, address = '127.0.0.1', from?: string): void {
  const subject = `subjectAltName=DNS:localhost,IP:${address}`
  const [file, ...words] = [...(from === undefined ? [] : ['faketime', from]), 'sh'] as const
  must(
    file,
    ...words,
    '-c',
    `cd ${folder} && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost 2>/dev/null
    printf '${subject}' > ext
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile ext 2>/dev/null`,
  )
}

/** Creates a root filesystem, which has to succeed, and returns the result of the command. */
export function provision(world: World, image: string, ...flags: readonly string[]): Provisioned {
  return world.json('provision', ...flags, image)
}

/** Runs a command that has to fail, checks that it has left nothing, and returns its error. */
export function failureOf(world: World, ...args: readonly string[]): Failure {
  const failure = world.failure(...args)
  const left = [...world.mounts(), ...(existsSync(world.root) ? world.leftovers() : [])]
  if (left.length > 0) throw new Error(`it left ${left.join(', ')}`)
  return failure
}
