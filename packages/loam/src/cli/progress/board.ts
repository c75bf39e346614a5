import type { PullEvent } from '../../stores/index.ts'
import type { PushEvent } from '../../images/index.ts'

/** An event that shows how far a command is. */
export type WorkEvent = PullEvent | PushEvent

/** How far one part of the work is. */
export interface Task {
  /** Short name: the first digits of a digest, a file, or what is done. ASCII. */
  readonly label: string
  /** `queued`: known, and not begun. `waiting`: for another process. `here`: nothing had to be done. */
  readonly state: 'queued' | 'waiting' | 'active' | 'done' | 'here'
  readonly doneBytes: number
  /** Undefined: unknown. */
  readonly totalBytes: number | undefined
  /** The process that is waited for, if it is known. */
  readonly holderPid: number | undefined
  /** A remark about the result. */
  readonly remark: string | undefined
  /** When its first bytes were done; undefined before. */
  readonly startedMs: number | undefined
  /** When it was done; undefined where nothing had to be done. */
  readonly endedMs: number | undefined
}

/** Sums over all tasks. */
export interface Totals {
  readonly tasks: number
  readonly finished: number
  readonly here: number
  readonly doneBytes: number
  /** Undefined: the size of a task is unknown. */
  readonly totalBytes: number | undefined
}

/** Time over which the speed is measured. */
const SPEED_WINDOW_MS = 5000
const SAMPLE_MS = 200
const MIN_SPEED_MS = 500

const NEW: Task = {
  label: '',
  state: 'queued',
  doneBytes: 0,
  totalBytes: undefined,
  holderPid: undefined,
  remark: undefined,
  startedMs: undefined,
  endedMs: undefined,
}

/** The parts of the work of a command, their sizes and the speed. Knows nothing of terminals. */
export class ProgressBoard {
  readonly #now: () => number
  readonly #tasks = new Map<string, Task>()
  #samples: { readonly atMs: number; readonly bytes: number }[] = []
  readonly startedMs: number

  /** `now` returns milliseconds. */
  constructor(now: () => number) {
    this.#now = now
    this.startedMs = now()
  }

  /** All tasks, in the order in which they became known. */
  get tasks(): readonly Task[] {
    return [...this.#tasks.values()]
  }

  /** Whether there is something to wait for. */
  get isBusy(): boolean {
    return this.tasks.some((task) => !isFinished(task))
  }

  get totals(): Totals {
    const tasks = this.tasks.filter(({ state }) => state !== 'here')
    const isKnown = tasks.every(({ totalBytes }) => totalBytes !== undefined)
    return {
      tasks: tasks.length,
      finished: tasks.filter(isFinished).length,
      here: this.#tasks.size - tasks.length,
      doneBytes: sum(tasks, ({ doneBytes }) => doneBytes),
      totalBytes: isKnown ? sum(tasks, ({ totalBytes }) => totalBytes ?? 0) : undefined,
    }
  }

  /** Changes a task, and returns it. It is created when it is not known, and begins anew if it is active again. */
  set(key: string, change: Partial<Task>): Task {
    const known = this.#tasks.get(key) ?? NEW
    const isAgain = isFinished(known) && change.state === 'active'
    const before = isAgain ? { ...known, startedMs: undefined, endedMs: undefined } : known
    const hasBegun = change.state === 'active' || change.state === 'done'
    const startedMs = before.startedMs ?? (hasBegun ? this.#now() : undefined)
    const after = { ...before, startedMs, ...change }
    const hasEnded = after.state === 'done' && before.state !== 'done'
    const task = hasEnded ? { ...after, endedMs: this.#now() } : after
    this.#tasks.set(key, task)
    this.#sample()
    return task
  }

  /** Forgets everything that is finished. */
  clear(): void {
    for (const [key, task] of this.#tasks) if (isFinished(task)) this.#tasks.delete(key)
    this.#samples = []
  }

  /** Bytes in a second, over the last seconds. Undefined: not known yet. */
  get speed(): number | undefined {
    const [first] = this.#samples
    if (first === undefined) return undefined
    const elapsedMs = this.#now() - first.atMs
    if (elapsedMs < MIN_SPEED_MS) return undefined
    return ((this.totals.doneBytes - first.bytes) / elapsedMs) * 1000
  }

  /** Milliseconds until all is done at this speed. Undefined: not known. */
  get leftMs(): number | undefined {
    const { doneBytes, totalBytes } = this.totals
    const { speed } = this
    if (totalBytes === undefined || speed === undefined || speed <= 0) return undefined
    return (Math.max(0, totalBytes - doneBytes) / speed) * 1000
  }

  #sample(): void {
    const atMs = this.#now()
    const last = this.#samples.at(-1)
    if (last !== undefined && atMs - last.atMs < SAMPLE_MS) return
    this.#samples.push({ atMs, bytes: this.totals.doneBytes })
    // The oldest one that is kept is as old as the window.
    while ((this.#samples[1]?.atMs ?? Infinity) <= atMs - SPEED_WINDOW_MS) this.#samples.shift()
  }
}

/** Returns whether a task has ended. */
export function isFinished({ state }: Task): boolean {
  return state === 'done' || state === 'here'
}

function sum(tasks: readonly Task[], of: (task: Task) => number): number {
  return tasks.reduce((total, task) => total + of(task), 0)
}
