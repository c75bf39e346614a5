// Shared by the attacks: a hostile container, played by a process that changes its root filesystem in a loop.
import { execFileSync, fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildImage, type BuildEntry, buildTar } from '../../../src/testing/index.ts'
import type { Random } from '../random.ts'
import type { Scene, Store } from '../scene.ts'

const PROGRAM = fileURLToPath(new URL('attacker.ts', import.meta.url))

export const BACKENDS = ['erofs', 'overlay', 'copy', 'bind'] as const

/** The context of one attack. */
export interface AttackPlace {
  readonly scene: Scene
  /** A store of its own. `store.outside` is a folder of the host that nothing may touch or read. */
  readonly store: Store
  readonly backend: (typeof BACKENDS)[number]
  readonly random: Random
  /** Whether it continues: by time, so that a quick machine does more. Each operation runs at least once. */
  readonly isTime: () => boolean
  /** Counts an event that has to happen, or that is worth reporting. */
  readonly count: (name: string, by?: number) => void
}

/** One attack, by one backend. Returns the violations, as sentences. */
export interface Attack {
  readonly name: string
  /** Backends that it makes sense with; undefined: all. `bind` has only read-only root filesystems. */
  readonly backends?: readonly (typeof BACKENDS)[number][]
  readonly run: (place: AttackPlace) => Promise<readonly string[]>
}

/** The attacker's actions in its loop; `attacker.ts` has one function for each. Paths are absolute, or from its working directory. */
export type Trick =
  /** A directory is that directory, or a symlink, in turn. */
  | { readonly kind: 'swap'; readonly path: string; readonly symlink: string }
  /** Two names change places, in one step. */
  | { readonly kind: 'exchange'; readonly path: string; readonly other: string }
  /** A directory is in two places in turn. */
  | { readonly kind: 'move'; readonly path: string; readonly other: string }
  /** A name is a file, a symlink, a fifo, a directory with a file in it, and nothing. */
  | { readonly kind: 'replace'; readonly path: string; readonly symlink: string }

/** A running attacker: a process of its own, so that it works while the main thread waits for a system call. */
export class Attacker implements AsyncDisposable {
  readonly #child: ReturnType<typeof fork>
  /** Number of changes that it has made and undone. */
  turns = 0

  private constructor(child: ReturnType<typeof fork>) {
    this.#child = child
    child.on('message', (turns) => {
      this.turns = Number(turns)
    })
  }

  /** Starts one, and waits for its first turn. */
  static async start(tricks: readonly Trick[], cwd = '/'): Promise<Attacker> {
    const child = fork(PROGRAM, [JSON.stringify(tricks)], {
      execArgv: [],
      cwd,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    const attacker = new Attacker(child)
    while (attacker.turns === 0) await once(child, 'message')
    return attacker
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) throw new Error('the attacker has ended by itself')
    const closed = once(this.#child, 'close')
    this.#child.kill('SIGKILL')
    await closed
  }
}

/** Adds an image to the scene's registry, once, and returns its reference. */
export function addImage({ server }: Scene, name: string, entries: readonly BuildEntry[]): string {
  server.addImage(name, '1', buildImage({ tars: [buildTar([...entries])] }))
  return `${server.host}/${name}:1`
}

/** Creates directories of the host that attackers point at: each a file system of its own, so that a misdirected unmount is seen, too. */
export function createVictim(store: Store, ...names: readonly string[]): string {
  const path = join(store.folder, 'victim')
  for (const name of names) {
    mkdirSync(join(path, name), { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', 'victim', join(path, name)])
    writeFileSync(join(path, name, HOST_FILE), 'of the host')
  }
  return path
}

export function removeVictim(store: Store, ...names: readonly string[]): void {
  for (const name of names) spawnSync('umount', ['-l', join(store.folder, 'victim', name)])
}

/** Returns the violations at a victim: a mount, or a new or missing file. */
export function checkVictim(store: Store, ...names: readonly string[]): string[] {
  const path = join(store.folder, 'victim')
  const expected = names.map((name) => join(path, name))
  const mounted = store.mounts().filter((target) => target.startsWith(`${path}/`))
  const changed = expected.flatMap((directory) => {
    const found = readdirSync(directory).join()
    return found === HOST_FILE ? [] : [`the host's own ${directory} has now: ${found}`]
  })
  if (mounted.toSorted().join() === expected.toSorted().join()) return changed
  return [`mounted on the host's own: ${mounted.join()}`, ...changed]
}

const HOST_FILE = 'host-file'
