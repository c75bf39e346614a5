// The programs as users install them: bundled into directories where Node finds each package and their dependencies.
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url))
const CACHE = join(REPOSITORY, 'node_modules/.cache')
const BUNDLER = join(REPOSITORY, 'tools/node_modules/.bin/rolldown')

/** Environment in which V8 keeps what it compiles: without it each thread that runs the sources takes half a second of a core to start. */
export const KEPT_CODE = { NODE_COMPILE_CACHE: join(CACHE, 'compiled') } as const

/** Bundles both packages and installs them in a temporary directory. */
export class InstalledPrograms implements Disposable {
  readonly folder: string

  constructor() {
    mkdirSync(CACHE, { recursive: true })
    this.folder = mkdtempSync(join(CACHE, 'installed-'))
    // Other users run them, too.
    chmodSync(this.folder, 0o755)
    install('loam', this.#packageFolder('loamfs'))
    install('loamd', this.#packageFolder('loamd'))
  }

  /** Path of the command. */
  get loam(): string {
    return join(this.#packageFolder('loamfs'), 'bin/loam.cjs')
  }

  /** Path of the library's module. */
  get library(): string {
    return join(this.#packageFolder('loamfs'), 'index.js')
  }

  /** Path of the module of the daemon's client. */
  get client(): string {
    return join(this.#packageFolder('loamfs'), 'client.js')
  }

  /** Path of the daemon. */
  get loamd(): string {
    return join(this.#packageFolder('loamd'), 'bin/loamd.js')
  }

  /** Variables that name them to tests: see packages/loam/test/support/test-tools.ts. */
  get env(): NodeJS.ProcessEnv {
    return { INSTALLED_LOAM: this.loam, INSTALLED_LOAMD: this.loamd }
  }

  #packageFolder(name: string): string {
    return join(this.folder, 'node_modules', name)
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

function install(name: string, target: string): void {
  mkdirSync(target, { recursive: true })
  const folder = join(REPOSITORY, 'packages', name)
  for (const part of [
    'bin',
    'client.js',
    'index.js',
    'internal.js',
    'require-node.js',
    'testing.js',
    'package.json',
  ])
    if (existsSync(join(folder, part))) cpSync(join(folder, part), join(target, part), { recursive: true })
  // Without the types, which take ten times as long and are not needed here.
  const { status } = spawnSync(BUNDLER, ['--config', '--dir', join(target, 'dist')], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (status !== 0) throw new Error(`the bundle of ${name} cannot be made: npm install --prefix tools`)
}
