/** The longest time that a timer of Node can wait, 24 days; after a longer one it fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1

/**
 * A signal that fires when a time is over or when the caller's signal fires, for one piece of work: it ends with its scope. A timer of
 * `AbortSignal.timeout` stays until the time is over, for example an hour after each pull.
 */
export class TimeLimit implements Disposable {
  readonly signal: AbortSignal
  readonly #limit = new AbortController()
  readonly #timer: NodeJS.Timeout

  /** @param ms milliseconds; at most 24 days count */
  constructor(ms: number, given?: AbortSignal) {
    const { signal } = this.#limit
    this.signal = given === undefined ? signal : AbortSignal.any([given, signal])
    this.#timer = setTimeout(
      () => {
        this.#limit.abort(new DOMException('The time limit is over.', 'TimeoutError'))
      },
      Math.min(ms, MAX_TIMER_MS),
    ).unref()
  }

  /** Whether the time is over. */
  get isOver(): boolean {
    return this.#limit.signal.aborted
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
  }
}
