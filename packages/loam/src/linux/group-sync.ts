/**
 * Waiting for the disk that many share: who comes while one wait is under way shares the next one, since the one under way may have begun
 * before what they wrote. Two waits at most, for any number of callers.
 */
export class GroupSync {
  readonly #sync: () => Promise<void>
  #current: Promise<void> | undefined
  #next: Promise<void> | undefined

  /** `sync` makes all that was written before it was called survive a power cut. */
  constructor(sync: () => Promise<void>) {
    this.#sync = sync
  }

  /** Waits until what the caller has written survives a power cut. @throws what `sync` throws */
  async wait(): Promise<void> {
    if (this.#current === undefined) return this.#start()
    this.#next ??= this.#follow(this.#current)
    return this.#next
  }

  async #follow(current: Promise<void>): Promise<void> {
    await current.catch(() => undefined)
    this.#next = undefined
    return this.#start()
  }

  async #start(): Promise<void> {
    const current = this.#sync()
    this.#current = current
    try {
      await current
    } finally {
      if (this.#current === current) this.#current = undefined
    }
  }
}
