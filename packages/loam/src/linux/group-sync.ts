/**
 * Groups the syncs of many callers: a caller that arrives during a sync shares the next one, because the running one may have started
 * before its data was written. Each caller waits for at most two syncs, whatever their number.
 */
export class GroupSync {
  readonly #sync: () => Promise<void>
  #current: Promise<void> | undefined
  #next: Promise<void> | undefined

  /** After `sync`, all data written before the call survives a power cut. */
  constructor(sync: () => Promise<void>) {
    this.#sync = sync
  }

  /** Waits until the caller's data survives a power cut. @throws the errors of `sync` */
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
