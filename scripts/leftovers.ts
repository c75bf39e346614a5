// Files, mounts and processes that a run of tests has left: each tier gets a folder for temporary files and a mark in the environment of all its
// processes, so that they can be told from those of other programs.
import { chmodSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

// Not LOAM_…: the command warns of variables that are not settings.
const MARK = 'TEST_RUN_OF_LOAM'
/** Processes that were told to end may take a moment. */
const END_LIMIT_MS = 10_000
/** Files of a directory that a report lists. */
const LISTED_FILES = 20

/** One run of a tier, to be checked when it has ended. */
export class TierRun implements Disposable {
  /** Folder for all temporary files. Its path is short: sockets are in it. */
  readonly folder = mkdtempSync('/tmp/loam-t-')
  readonly #mountsFiles: string[] = []

  constructor() {
    // As /tmp: tests and package managers work as other users, too.
    chmodSync(this.folder, 0o1777)
  }

  /** Environment of the processes of the run. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, TMPDIR: this.folder, [MARK]: this.folder }
  }

  /** Returns a file for the mounts that one of the run's namespaces has at the end. */
  newMountsFile(): string {
    const file = join(this.folder, `mountinfo-${this.#mountsFiles.length}`)
    this.#mountsFiles.push(file)
    return file
  }

  /** Lists files, mounts, loop devices and processes that still exist. */
  async find(): Promise<string[]> {
    const left = this.#mountsFiles.flatMap((file) => this.#findMounts(file))
    for (const file of this.#mountsFiles) rmSync(file, { force: true })
    return [...left, ...this.#findFiles(), ...this.#findLoopDevices(), ...(await this.#findProcesses())]
  }

  /** A directory is named by what is in it, which tells whose it is. */
  #findFiles(): string[] {
    return readdirSync(this.folder).map((name) => {
      const path = join(this.folder, name)
      const within = lstatSync(path).isDirectory() ? readdirSync(path, { recursive: true }) : []
      const listed = within.slice(0, LISTED_FILES).join(' ')
      return `file ${path}${within.length === 0 ? '' : `, in it ${within.length}: ${listed}`}`
    })
  }

  #findMounts(file: string): string[] {
    return readIfThere(file)
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(`${this.folder}/`))
      .map((path) => `mount ${path}`)
  }

  #findLoopDevices(): string[] {
    return readdirSync('/sys/block')
      .filter((name) => name.startsWith('loop'))
      .map((name) => ({ name, file: readIfThere(`/sys/block/${name}/loop/backing_file`) }))
      .filter(({ file }) => file.startsWith(`${this.folder}/`))
      .map(({ name, file }) => `loop device ${name} of ${file.trim()}`)
  }

  async #findProcesses(): Promise<string[]> {
    for (const end = Date.now() + END_LIMIT_MS; ; ) {
      const found = listProcesses().filter((pid) =>
        readIfThere(`/proc/${pid}/environ`).split('\0').includes(`${MARK}=${this.folder}`),
      )
      if (found.length === 0 || Date.now() > end)
        return found.map((pid) => `process ${pid}: ${commandOf(pid)}`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

function listProcesses(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
}

function commandOf(pid: number): string {
  return readIfThere(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').slice(0, 200)
}

/** A process that has ended meanwhile, or belongs to another user, cannot be read. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
