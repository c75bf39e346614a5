import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const CHECK_INTERVAL_MS = 10_000
/** Processor time of the main thread between two checks below which it counts as idle: scrapes of metrics and health checks take less. */
const IDLE_MS = 100
/** Processor time since the last collection from which another one is worth its pause. */
const WORTH_MS = 200

export interface IdleMemoryOptions {
  /** Returns the processor time of the main thread so far, in milliseconds. */
  readonly usedMs: () => number
  /** Collects garbage and returns free pages to the system. */
  readonly collect: () => void
}

/**
 * Returns memory to the system when the main thread becomes idle after work. V8 by itself keeps what its last work needed until there is more
 * work. The collection blocks the main thread for some 50 ms, once after each time of work.
 */
export class IdleMemory implements Disposable {
  readonly #options: IdleMemoryOptions
  readonly #timer: NodeJS.Timeout
  #seenMs = 0
  #collectedMs = 0

  constructor(options: IdleMemoryOptions = { usedMs: threadTime, collect: collectGarbage }) {
    this.#options = options
    this.#timer = setInterval(() => {
      this.check()
    }, CHECK_INTERVAL_MS).unref()
  }

  /** Collects garbage if the main thread was idle since the last check, and has worked since the last collection. Returns whether it did. */
  check(): boolean {
    const { usedMs, collect } = this.#options
    const now = usedMs()
    const isIdle = now - this.#seenMs < IDLE_MS
    this.#seenMs = now
    if (!isIdle || now - this.#collectedMs < WORTH_MS) return false
    collect()
    this.#seenMs = usedMs()
    this.#collectedMs = this.#seenMs
    return true
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

function threadTime(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

/** V8 has no other way to return free pages: `last-resort` is what it does before it gives up for lack of memory. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as NodeJS.GCFunction
  setFlagsFromString('--no-expose-gc')
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}
