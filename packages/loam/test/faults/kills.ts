// R1 and R2: kill -9 at random moments, and at the n-th call that changes something.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { check, checkEmptied } from './invariants.ts'
import type { Group, Outcome } from './outcome.ts'
import type { Random } from './random.ts'
import { type Scene, Store, type VerbOptions, type VerbResult } from './scene.ts'

/** Calls that change a file system or a mount, by strace's names. */
export const CHANGING_CALLS = [
  'rename',
  'mkdir',
  'rmdir',
  'unlink',
  'unlinkat',
  'fsync',
  'fdatasync',
  'syncfs',
  'pwrite64',
  'pwritev',
  'ftruncate',
  'fallocate',
  'copy_file_range',
  'chmod',
  'fchmod',
  'fchmodat',
  'chown',
  'fchown',
  'fchownat',
  'linkat',
  'symlinkat',
  'mkdirat',
  'mknodat',
  'utimensat',
  'fsetxattr',
  'setxattr',
  'lsetxattr',
  'mount',
  'umount2',
  'fsmount',
  'fsconfig',
  'move_mount',
] as const

/** The acknowledged work of a store over many faults. */
export class History {
  readonly pulled = new Set<string>()
  readonly containers = new Map<string, { image: string; written: string }>()
  #next = 0

  newId(): string {
    this.#next += 1
    return `c${this.#next}`
  }

  /** Records the result of a verb that has succeeded, or its possible result. */
  note(verb: readonly string[], { status, stdout }: VerbResult): void {
    const [name = '', ...args] = verb
    const subject = args.at(-1) ?? ''
    const isDone = status === 0
    if (name === 'pull' && isDone) this.pulled.add(subject)
    if (name === 'provision' && isDone) {
      const written = `by ${subject}`
      const { rootfs } = JSON.parse(stdout) as { rootfs: string }
      writeFileSync(join(rootfs, 'written'), written)
      this.containers.set(args[1] ?? '', { image: subject, written })
    }
    // Whether or not it exists, it does not count any more.
    if (name === 'destroy') this.containers.delete(subject)
    if (name === 'prune') this.pulled.clear()
  }
}

export function randomVerb(random: Random, scene: Scene, history: History): string[] {
  const reference = random.pick(scene.references)
  const verb = random.weighted({ pull: 40, provision: 25, destroy: 15, prune: 10, recover: 5, fsck: 5 })
  if (verb === 'pull') return ['pull', reference]
  if (verb === 'provision') return ['provision', '--id', history.newId(), reference]
  const known = [...history.containers.keys()]
  if (verb === 'destroy' && known.length > 0) return ['destroy', random.pick(known)]
  if (verb === 'prune') return ['prune', '--all', '--local']
  return verb === 'destroy' ? ['pull', reference] : [verb]
}

export const randomKills: Group = {
  id: 'R1',
  what: 'kill -9 at a random moment, of one verb or of two at once',
  run: async ({ scene, isLong }, outcome) => {
    let store = new Store()
    let history = new History()
    let usualMs = 500
    try {
      await outcome.repeat(isLong ? 2000 : 20, async (random) => {
        if (random.next() < 0.5) {
          outcome.add(0, await checkEmptied(store))
          store[Symbol.dispose]()
          store = new Store()
          history = new History()
        }
        const count = random.next() < 0.1 ? 2 : 1
        const verbs = Array.from({ length: count }, () => randomVerb(random, scene, history))
        // A verb that is killed may have completed its work.
        const runs = verbs.map(async (verb) => {
          // Some run to their end: they show how long one takes, and leave objects to remove.
          const killAfterMs = random.next() < 0.25 ? undefined : Math.ceil(random.next() * usualMs * 1.1)
          const result = await store.run({ killAfterMs }, ...verb)
          if (result.status === null) outcome.count('killed')
          else if (killAfterMs === undefined) usualMs = usualMs * 0.8 + result.durationMs * 0.2
          history.note(verb, result)
        })
        await Promise.all(runs)
        return check(scene, store, history)
      })
      outcome.require('killed')
    } finally {
      store[Symbol.dispose]()
    }
  },
}

/** Verbs that are tried one by one, each on a store where it has everything to do, or everything to remove. */
export const VERBS: Readonly<
  Record<string, { readonly before: readonly string[][]; readonly verb: readonly string[] }>
> = {
  pull: { before: [], verb: ['pull', 'IMAGE'] },
  provision: { before: [], verb: ['provision', '--id', 'c', 'IMAGE'] },
  'provision, copy': { before: [], verb: ['provision', '--backend', 'copy', '--id', 'c', 'IMAGE'] },
  'provision, overlay': { before: [], verb: ['provision', '--backend', 'overlay', '--id', 'c', 'IMAGE'] },
  destroy: { before: [['provision', '--id', 'c', 'IMAGE']], verb: ['destroy', 'c'] },
  prune: {
    before: [
      ['pull', 'IMAGE'],
      ['provision', '--id', 'c', 'IMAGE'],
      ['destroy', 'c'],
    ],
    verb: ['prune', '--all', '--local'],
  },
  recover: { before: [['provision', '--id', 'c', 'IMAGE']], verb: ['recover'] },
}

export function fillIn(verb: readonly string[], image: string): string[] {
  return verb.map((word) => (word === 'IMAGE' ? image : word))
}

/** A changing call of a verb: the n-th of its kind that a thread makes, which is how strace counts. */
export interface CountedCall {
  readonly name: string
  readonly call: string
  readonly at: number
}

/** Runs a verb under strace, with a fault injected into calls of a kind, selected by `when`. One pool thread makes it repeatable. */
export function injecting(call: string, fault: string, log = '/dev/null'): VerbOptions {
  const inject = fault === '' ? [] : ['-e', `inject=${call}:${fault}`]
  return {
    wrapper: ['strace', '-f', '-qq', '-o', log, '-e', `trace=${call}`, ...inject],
    env: { UV_THREADPOOL_SIZE: '1' },
  }
}

/** Counts the changing calls of a verb: for each kind those of the thread that makes most. */
async function countCalls(scene: Scene, name: string): Promise<ReadonlyMap<string, number>> {
  using store = new Store()
  const image = scene.references[1] ?? ''
  const { before, verb } = VERBS[name] ?? { before: [], verb: [] }
  for (const one of before) await store.run({}, ...fillIn(one, image))
  const log = join(store.folder, 'strace')
  await store.run(injecting(CHANGING_CALLS.join(','), '', log), ...fillIn(verb, image))
  if (!existsSync(log)) throw new Error('strace wrote nothing')
  const byThread = new Map<string, number>()
  const most = new Map<string, number>()
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const [, thread, call] = /^(\d+) +([a-z0-9_]+)\(/.exec(line) ?? []
    if (thread === undefined || call === undefined) continue
    const count = (byThread.get(`${thread} ${call}`) ?? 0) + 1
    byThread.set(`${thread} ${call}`, count)
    most.set(call, Math.max(most.get(call) ?? 0, count))
  }
  rmSync(log)
  return most
}

/** Every changing call of every verb. */
export async function allCalls(scene: Scene, outcome: Outcome): Promise<CountedCall[]> {
  const plan: CountedCall[] = []
  for (const name of Object.keys(VERBS)) {
    const counts = await countCalls(scene, name)
    const calls = [...counts].flatMap(([call, count]) =>
      Array.from({ length: count }, (_value, index) => ({ name, call, at: index + 1 })),
    )
    outcome.figures[name] = `${calls.length} calls`
    plan.push(...calls)
  }
  return plan
}

export const countedKills: Group = {
  id: 'R2',
  what: 'kill at the n-th changing call of each verb',
  run: async ({ scene }, outcome) => {
    const image = scene.references[1] ?? ''
    await outcome.repeatCases(await allCalls(scene, outcome), 8, async ({ name, call, at }) => {
      const { before, verb } = VERBS[name] ?? { before: [], verb: [] }
      using store = new Store()
      for (const one of before) await store.run({}, ...fillIn(one, image))
      const { status } = await store.run(injecting(call, `signal=KILL:when=${at}`), ...fillIn(verb, image))
      if (status !== 0) outcome.count('killed')
      const wrong = [...(await check(scene, store)), ...(await checkEmptied(store))]
      return wrong.map((one) => `${name} killed at ${call} ${at}: ${one}`)
    })
    outcome.require('killed')
  },
}
