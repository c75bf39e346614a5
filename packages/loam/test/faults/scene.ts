// Shared by all faults: a registry with images whose trees are known, a store in a directory, and the real command.
import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openLoam } from '../../src/index.ts'
import { gather } from '../support/world.ts'
import { programPath } from '../support/test-tools.ts'
import { buildImage, buildTar, type BuildEntry, listTree, RegistryServer } from '../../src/testing/index.ts'

export const BIN = programPath('loam')
/** All files of one process of this kind are in here, on a disk: /tmp may be memory. */
export const WORK_FOLDER = `/var/tmp/loam-faults-${randomUUID()}`
const VERB_LIMIT_MS = 60_000

export interface VerbResult {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
  readonly durationMs: number
}

/** Programs before the command, and its environment and directory. */
export interface VerbOptions {
  readonly wrapper?: readonly string[] | undefined
  readonly env?: NodeJS.ProcessEnv | undefined
  /** Time after which it is killed. */
  readonly killAfterMs?: number | undefined
}

/** One store. */
export class Store implements Disposable {
  readonly folder: string
  /** Verbs that had to be killed. */
  readonly hung: string[] = []

  constructor(folder = realpathSync(mkdtempSync(join(WORK_FOLDER, 'store-')))) {
    this.folder = folder
    mkdirSync(this.outside, { recursive: true })
    writeFileSync(join(this.outside, 'canary'), 'untouched')
  }

  get root(): string {
    return join(this.folder, 'store')
  }

  get state(): string {
    return join(this.folder, 'state')
  }

  /** A directory that no process may change. */
  get outside(): string {
    return join(this.folder, 'outside')
  }

  async run(options: VerbOptions, ...verb: readonly string[]): Promise<VerbResult> {
    const [file = '', ...args] = [
      ...(options.wrapper ?? []),
      process.execPath,
      BIN,
      '--root',
      this.root,
      '--state',
      this.state,
      '--json',
      ...verb,
    ]
    const start = performance.now()
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      ...(options.killAfterMs === undefined ? {} : { timeout: options.killAfterMs }),
      killSignal: 'SIGKILL',
      // A process group of its own, so that a hanging child ends with the program before it.
      detached: true,
    })
    const limit = setTimeout(() => {
      this.hung.push(verb.join(' '))
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    }, VERB_LIMIT_MS)
    const [stdout, stderr] = [gather(child.stdout), gather(child.stderr)]
    const { promise, resolve } = Promise.withResolvers<number | null>()
    child.once('close', resolve)
    const status = await promise
    clearTimeout(limit)
    return { status, stdout: stdout(), stderr: stderr(), durationMs: performance.now() - start }
  }

  async open(): ReturnType<typeof openLoam> {
    return openLoam({ flags: { root: this.root, state: this.state }, file: null, env: {} })
  }

  mounts(): string[] {
    return readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(`${this.folder}/`))
  }

  unmountAll(): void {
    for (const path of this.mounts().toReversed()) spawnSync('umount', ['-l', path])
  }

  [Symbol.dispose](): void {
    this.unmountAll()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** The images and their expected trees. */
export class Scene implements AsyncDisposable {
  readonly server: RegistryServer
  /** Tree of each image, by reference. */
  readonly trees: ReadonlyMap<string, readonly string[]>

  private constructor(server: RegistryServer, trees: ReadonlyMap<string, readonly string[]>) {
    this.server = server
    this.trees = trees
  }

  static async make(): Promise<Scene> {
    mkdirSync(WORK_FOLDER, { recursive: true })
    const server = await RegistryServer.start()
    const base = files('base', 60)
    const images = {
      one: [base, files('one', 40), [{ name: 'base/.wh.f0' }, { name: 'base/f1', data: 'changed' }]],
      two: [base, files('two', 40), [{ name: 'large', data: Buffer.alloc(3 << 20, 'large ') }]],
      three: [files('three', 20)],
    } satisfies Record<string, BuildEntry[][]>
    for (const [name, layers] of Object.entries(images)) {
      server.addImage(name, '1', buildImage({ tars: layers.map(buildTar) }))
    }
    using store = new Store()
    await using loam = await store.open()
    const trees = new Map<string, readonly string[]>()
    for (const name of Object.keys(images)) {
      const reference = `${server.host}/${name}:1`
      const { rootfsPath } = await loam.provision(reference, { id: name, backend: 'copy' })
      trees.set(reference, listTree(rootfsPath))
      await loam.destroy(name)
    }
    return new Scene(server, trees)
  }

  get references(): string[] {
    return [...this.trees.keys()]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]()
    rmSync(WORK_FOLDER, { recursive: true, force: true })
  }
}

function files(folder: string, count: number): BuildEntry[] {
  return [
    { name: `${folder}/` },
    ...Array.from({ length: count }, (_value, index) => ({
      name: `${folder}/f${index}`,
      data: Buffer.alloc(500 + index * 97, `${folder} ${index} `),
    })),
    { name: `${folder}/hard`, type: 'hardlink' as const, linkName: `${folder}/f2` },
    { name: `${folder}/soft`, type: 'symlink' as const, linkName: 'f3' },
  ]
}
