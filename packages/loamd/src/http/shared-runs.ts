import { cancelable } from 'loamfs/internal'

/** Callbacks and the signal of a run. */
export interface RunOptions {
  readonly signal: AbortSignal
  readonly onEvent: (event: unknown) => void
}

interface Run {
  readonly result: Promise<unknown>
  readonly stop: AbortController
  readonly watchers: Set<RunOptions['onEvent']>
}

/** Work that several clients request at the same time, and that runs once. It is canceled when the last of them has disconnected. */
export class SharedRuns {
  readonly #runs = new Map<string, Run>()

  /** Waits for the run of a key, and begins it if there is none. @throws the errors of the run; CANCELED when the signal fires */
  async join<Result>(
    key: string,
    { signal, onEvent }: RunOptions,
    work: (options: RunOptions) => Promise<Result>,
  ): Promise<Result> {
    signal.throwIfAborted()
    const run = this.#runs.get(key) ?? this.#begin(key, work)
    // An object of its own, so that a client that asks twice counts twice.
    const watch = (event: unknown) => {
      onEvent(event)
    }
    run.watchers.add(watch)
    const left = Promise.withResolvers<never>()
    const leave = () => {
      left.reject(signal.reason)
    }
    signal.addEventListener('abort', leave)
    try {
      // A key contains the name of the operation, which determines the type of the result.
      return (await cancelable(signal, 'wait for the result', async () =>
        Promise.race([run.result, left.promise]),
      )) as Result
    } finally {
      signal.removeEventListener('abort', leave)
      run.watchers.delete(watch)
      if (run.watchers.size === 0) await this.#end(key, run)
    }
  }

  #begin(key: string, work: (options: RunOptions) => Promise<unknown>): Run {
    const stop = new AbortController()
    const watchers: Run['watchers'] = new Set()
    const onEvent = (event: unknown) => {
      for (const watch of watchers) watch(event)
    }
    const begin = async () => {
      // Not before the client that requested it listens: some work sends its first events at once.
      await Promise.resolve()
      return work({ signal: stop.signal, onEvent })
    }
    const run = { result: begin(), stop, watchers }
    this.#runs.set(key, run)
    const forget = () => {
      if (this.#runs.get(key) === run) this.#runs.delete(key)
    }
    run.result.then(forget, forget)
    return run
  }

  /** No other client joins a run that is being stopped. */
  async #end(key: string, run: Run): Promise<void> {
    if (this.#runs.get(key) === run) this.#runs.delete(key)
    run.stop.abort()
    await run.result.catch(() => undefined)
  }
}
