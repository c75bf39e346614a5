import { setImmediate } from 'node:timers/promises'

/** Several pieces of work may have a turn each before a call is answered. */
const SLICE_MS = 2

/** Divides long work of the main thread: `rest` lets other work run after some milliseconds, and costs nothing before. */
export class TimeSlice {
  #startMs = performance.now()

  async rest(): Promise<void> {
    if (performance.now() - this.#startMs < SLICE_MS) return
    await setImmediate()
    this.#startMs = performance.now()
  }
}
