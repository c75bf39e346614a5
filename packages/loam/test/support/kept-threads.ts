// Keeps the threads of layer tasks from one store to the next within a process of tests, as the daemon keeps them from one call to the next: the
// start of a thread is half of the processor time of a pull, and most tests open stores. Loaded by scripts/run-tests.ts into the tiers root and e2e
// and by command-process.ts. Processes that tests start themselves end their threads as users' processes do.
import { syncBuiltinESMExports } from 'node:module'
import threads, { type WorkerOptions } from 'node:worker_threads'

/** A task that fails at once. A thread forgets its trees of layers after each build: the next store must read its own files. */
const FORGET = {
  kind: 'task',
  task: { kind: 'build', artifact: 'merged', layers: [], target: '/dev/null/none', limits: {} },
  canceled: new SharedArrayBuffer(4),
}
/** File of the threads, in the built package and in a checkout. */
const LAYER_WORKER = /\/worker\.[jt]s$/

/** Events that a pool listens to; Node itself listens to others. */
const OWN_EVENTS = ['message', 'error', 'exit']

const kept = new Map<string, KeptThread[]>()

/** A thread that is kept at its end if it has no task. */
class KeptThread extends threads.Worker {
  #file = ''
  #isBusy = false
  #isKept = false

  constructor(file: string | URL, options?: WorkerOptions) {
    const known = kept.get(String(file))?.pop()
    if (known !== undefined) {
      known.#isKept = false
      // oxlint-disable-next-line no-constructor-return
      return known
    }
    super(file, options)
    this.#file = String(file)
  }

  override postMessage(message: unknown, transfer?: Parameters<threads.Worker['postMessage']>[1]): void {
    if (isOfKind(message, 'task')) this.#isBusy = true
    super.postMessage(message, transfer as never)
  }

  override emit(event: string, ...args: unknown[]): boolean {
    if (event === 'message' && isOfKind(args[0], 'done', 'failed')) this.#isBusy = false
    return super.emit(event, ...args)
  }

  override async terminate(): Promise<number> {
    if (this.#isKept) return 0
    if (this.#isBusy || !LAYER_WORKER.test(this.#file) || this.threadId < 0) return super.terminate()
    for (const event of OWN_EVENTS) this.removeAllListeners(event)
    if (await this.#forgets()) {
      this.#isKept = true
      kept.set(this.#file, [...(kept.get(this.#file) ?? []), this])
    }
    return 0
  }

  /** Returns false if the thread has ended. */
  async #forgets(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const onMessage = () => {
      resolve(true)
    }
    const onExit = () => {
      resolve(false)
    }
    this.once('message', onMessage).once('exit', onExit).ref()
    this.postMessage(FORGET, [])
    const isAlive = await promise
    this.off('message', onMessage).off('exit', onExit).unref()
    return isAlive
  }
}

function isOfKind(message: unknown, ...kinds: readonly string[]): boolean {
  return (
    typeof message === 'object' &&
    message !== null &&
    'kind' in message &&
    kinds.includes(String(message.kind))
  )
}

threads.Worker = KeptThread
syncBuiltinESMExports()
