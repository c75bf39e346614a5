import { LoamError, throwIfAborted } from '../errors/index.ts'
import { guardCalls } from '../options/index.ts'
import { checkCallOptions } from './call-options.ts'

/** A process of `spawn`, as far as closing the store is concerned. */
interface Started extends AsyncDisposable {
  readonly wait: () => Promise<number>
}

/**
 * The calls of an open store. Its services are closed only when no call uses them any more, so that no call fails halfway for that, and what it began
 * is finished or undone.
 */
export class OpenCalls {
  readonly #running = new Set<Promise<unknown>>()
  readonly #started = new Set<Started>()
  #isClosed = false

  /**
   * Returns an object with the methods of another one, and of the parts of it that are named, whose calls are counted. A call fails with CANCELED if the `signal` of its options has fired
   * before, and with USAGE for an option whose value is invalid and once the store is closed.
   */
  guard<Door extends object>(door: Door, parts: readonly (keyof Door)[] = []): Door {
    return guardCalls(door, parts, {
      check: (call, args) => this.#check(call, args),
      run: async (act) => this.#count(act),
    })
  }

  #check(name: string, args: readonly unknown[]): void {
    if (this.#isClosed) throw new LoamError('USAGE', `call ${name}: the store is closed`)
    for (const arg of args) throwIfAborted(signalOf(arg), `call ${name}`)
    checkCallOptions(name, args.at(-1))
  }

  async #count(act: () => Promise<unknown>): Promise<unknown> {
    const result = act()
    this.#running.add(result)
    try {
      const value = await result
      if (isStarted(value)) this.#keep(value)
      return value
    } finally {
      this.#running.delete(result)
    }
  }

  #keep(started: Started): void {
    this.#started.add(started)
    const forget = () => {
      this.#started.delete(started)
    }
    started.wait().then(forget, forget)
  }

  /** Takes no more calls, ends the processes that were spawned, and waits for the calls in progress. */
  async close(): Promise<void> {
    this.#isClosed = true
    // A call in progress may start one more process.
    while (this.#running.size + this.#started.size > 0) {
      const started = [...this.#started]
      // Each is ended once: one that may not be ended goes on without the store.
      this.#started.clear()
      const ending = started.map(async (each) => each[Symbol.asyncDispose]())
      await Promise.allSettled([...ending, ...this.#running])
    }
  }
}

function signalOf(options: unknown): AbortSignal | undefined {
  if (typeof options !== 'object' || options === null || !('signal' in options)) return undefined
  return options.signal instanceof AbortSignal ? options.signal : undefined
}

function isStarted(value: unknown): value is Started {
  return typeof value === 'object' && value !== null && 'wait' in value && Symbol.asyncDispose in value
}
