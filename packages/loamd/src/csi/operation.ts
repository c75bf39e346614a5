import { throwIfAborted } from 'loamfs/internal'

/** How long an operation goes on that no call waits for. The kubelet repeats a call after at most two minutes. */
const IDLE_MS = 600_000

/** Work that outlasts the call that began it, so that the next one can join. */
export class Operation {
  readonly id: string
  readonly #canceled = new AbortController()
  readonly #done: Promise<void>
  #waiting = 0
  #idle: NodeJS.Timeout | undefined
  #idleMs = IDLE_MS

  /** Begins the work. `onEnd` is called when it has ended, before any call that waits is answered. */
  constructor(id: string, act: (canceled: AbortSignal) => Promise<void>, onEnd: (error: unknown) => void) {
    this.id = id
    this.#done = this.#run(act, onEnd)
    // It may fail while no call waits.
    this.#done.catch(() => undefined)
  }

  async #run(act: (canceled: AbortSignal) => Promise<void>, onEnd: (error: unknown) => void): Promise<void> {
    // Whoever creates it has to know it first.
    await Promise.resolve()
    let failure: unknown
    try {
      await act(this.#canceled.signal)
    } catch (error) {
      failure = error
      throw error
    } finally {
      clearTimeout(this.#idle)
      onEnd(failure)
    }
  }

  /** Waits for the end. @throws CANCELED when `signal` fires; the work goes on then */
  async join(signal?: AbortSignal): Promise<void> {
    throwIfAborted(signal, 'wait for a volume')
    const { promise: gone, resolve } = Promise.withResolvers<void>()
    const leave = () => {
      resolve()
    }
    signal?.addEventListener('abort', leave)
    this.#waiting += 1
    clearTimeout(this.#idle)
    try {
      await Promise.race([this.#done, gone])
      throwIfAborted(signal, 'wait for a volume')
    } finally {
      signal?.removeEventListener('abort', leave)
      this.#waiting -= 1
      if (this.#waiting === 0) this.#idle = setTimeout(() => this.#canceled.abort(), this.#idleMs).unref()
    }
  }

  /** From now on the work is canceled when no call waits for it. */
  endWithCalls(): void {
    this.#idleMs = 0
    // Its first call may not have joined yet.
    if (this.#waiting === 0 && this.#idle !== undefined) this.#canceled.abort()
  }

  /** Cancels the work, and waits for its end; how it ends does not matter. */
  async end(): Promise<void> {
    this.#canceled.abort()
    await this.#done.catch(() => undefined)
  }
}
