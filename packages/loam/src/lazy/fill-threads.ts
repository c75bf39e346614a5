import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { startThread } from '../linux/index.ts'
import type { SpanJob, SpanOutcome, ThreadAnswer, ThreadRequest } from './span-jobs.ts'
import { report } from './report.ts'

/** The same in a checkout, where each module is a file, and in the package, where the thread is beside the bundle. */
const THREAD_FILE = extname(import.meta.url) === '.ts' ? './fill-thread.ts' : './fill-thread.js'
const MAX_THREADS = 3
const YOUNG_GENERATION_MB = 4

interface Waiting {
  readonly job: SpanJob
  readonly resolve: (outcome: SpanOutcome) => void
}

/** The threads that fill. Jobs that a reader waits for come before the others. */
export class FillThreads {
  readonly #idle: Worker[] = []
  readonly #demand: Waiting[] = []
  readonly #ahead: Waiting[] = []
  readonly #running = new Map<number, Waiting>()
  readonly #jobOf = new Map<Worker, number>()
  #lastId = 0

  constructor(size = Math.min(MAX_THREADS, Math.max(2, availableParallelism()))) {
    for (let index = 0; index < size; index += 1) this.#start()
  }

  /** Does a job; a thread that dies of it is replaced. */
  async run(job: SpanJob, isDemand: boolean): Promise<SpanOutcome> {
    const { promise, resolve } = Promise.withResolvers<SpanOutcome>()
    const queue = isDemand ? this.#demand : this.#ahead
    queue.push({ job, resolve })
    this.#assign()
    return promise
  }

  #assign(): void {
    for (;;) {
      const worker = this.#idle.at(-1)
      const next = worker === undefined ? undefined : (this.#demand.shift() ?? this.#ahead.shift())
      if (worker === undefined || next === undefined) return
      this.#idle.pop()
      this.#lastId += 1
      this.#running.set(this.#lastId, next)
      this.#jobOf.set(worker, this.#lastId)
      const request: ThreadRequest = { id: this.#lastId, job: next.job }
      worker.postMessage(request, [])
    }
  }

  #start(): void {
    const worker = startThread(new URL(THREAD_FILE, import.meta.url), {
      trackUnmanagedFds: false,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    })
    worker.on('message', ({ id, outcome }: ThreadAnswer) => {
      this.#jobOf.delete(worker)
      this.#idle.push(worker)
      this.#finish(id, outcome)
    })
    worker.once('error', (error) => {
      report(`thread that fills: ${String(error)}`)
    })
    worker.once('exit', () => {
      const id = this.#jobOf.get(worker)
      this.#jobOf.delete(worker)
      const at = this.#idle.indexOf(worker)
      if (at >= 0) this.#idle.splice(at, 1)
      this.#start()
      if (id !== undefined) this.#finish(id, { kind: 'failed', why: 'its thread has ended' })
    })
    this.#idle.push(worker)
  }

  #finish(id: number, outcome: SpanOutcome): void {
    const done = this.#running.get(id)
    this.#running.delete(id)
    this.#assign()
    done?.resolve(outcome)
  }
}
