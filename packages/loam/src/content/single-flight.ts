import { LoamError, throwIfAborted } from '../errors/index.ts'

interface Flight {
  readonly done: Promise<void>
  readonly stop: AbortController
  callers: number
  isOver: boolean
}

/**
 * Work that many callers in this process want and one does. It continues while at least one caller waits for it, whichever caller began it, and its
 * signal fires when the last one has left.
 */
export class SingleFlight {
  readonly #flights = new Map<string, Flight>()

  /**
   * Waits for the work of a key, and begins it if it is not running. Returns whether this caller's own `work` was done: the result of another
   * caller's work has to be examined, because it may have failed for a reason that is not this caller's.
   * @throws the errors of the caller's own work; CANCELED when the signal fires, at once unless it was the last caller
   */
  async join(
    key: string,
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<boolean> {
    throwIfAborted(signal, `wait for ${key}`)
    const known = this.#flights.get(key)
    const flight = known ?? this.#begin(key, work)
    flight.callers += 1
    try {
      await untilAborted(flight.done, signal)
      return known === undefined
    } catch (error) {
      if (known !== undefined && signal?.aborted !== true) return false
      throw error
    } finally {
      flight.callers -= 1
      if (flight.callers === 0 && !flight.isOver) await this.#end(key, flight, signal)
    }
  }

  #begin(key: string, work: (signal: AbortSignal) => Promise<void>): Flight {
    const stop = new AbortController()
    const done = work(stop.signal)
    const flight = { done, stop, callers: 0, isOver: false }
    this.#flights.set(key, flight)
    const forget = () => {
      flight.isOver = true
      if (this.#flights.get(key) === flight) this.#flights.delete(key)
    }
    done.then(forget, forget)
    return flight
  }

  /** A caller may not join work that is being stopped; and the resources of the work are free when its last caller continues. */
  async #end(key: string, flight: Flight, signal: AbortSignal | undefined): Promise<void> {
    if (this.#flights.get(key) === flight) this.#flights.delete(key)
    flight.stop.abort(signal?.reason)
    await flight.done.catch(() => undefined)
  }
}

/** Waits for a promise that cannot be stopped, or not at once. @throws CANCELED when the signal fires before */
export async function untilAborted<T>(done: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return done
  const { promise, reject } = Promise.withResolvers<never>()
  const leave = () => {
    reject(new LoamError('CANCELED', 'wait: canceled', { cause: signal.reason }))
  }
  signal.addEventListener('abort', leave)
  try {
    return await Promise.race([done, promise])
  } finally {
    signal.removeEventListener('abort', leave)
  }
}
