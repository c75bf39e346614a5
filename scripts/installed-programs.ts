// The programs as users install them: built, and copied to where Node finds one package from the other and what both depend on.
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url))
const CACHE = join(REPOSITORY, 'node_modules/.cache')

/** Builds both packages and installs them in a folder that goes away. */
export class InstalledPrograms implements Disposable {
  readonly folder: string

  constructor() {
    const { status } = spawnSync('npm', ['run', '--silent', 'build'], { cwd: REPOSITORY, stdio: 'inherit' })
    if (status !== 0) throw new Error('npm run build has failed')
    mkdirSync(CACHE, { recursive: true })
    this.folder = mkdtempSync(join(CACHE, 'installed-'))
    // Other users run them, too.
    chmodSync(this.folder, 0o755)
    install('loam', this.#packageFolder('loamfs'))
    install('loamd', this.#packageFolder('loamd'))
  }

  /** Path of the command. */
  get loam(): string {
    return join(this.#packageFolder('loamfs'), 'bin/loam.js')
  }

  /** Path of the daemon. */
  get loamd(): string {
    return join(this.#packageFolder('loamd'), 'bin/loamd.js')
  }

  /** What tells tests of them: see packages/loam/test/test-tools.ts. */
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
  for (const part of ['bin', 'dist', 'index.js', 'testing.js', 'package.json']) {
    const source = join(REPOSITORY, 'packages', name, part)
    if (existsSync(source)) cpSync(source, join(target, part), { recursive: true })
  }
}
