/** Resources that are open for one request: closed when the request is over and no caller streams from them any more. */
export class RequestScope implements AsyncDisposable {
  readonly #opened = new AsyncDisposableStack()
  readonly #streams = new Set<Promise<unknown>>()
  readonly #closing: Set<Promise<void>>

  /** `closing` holds scopes that are closed later than their request, until they are closed. */
  constructor(closing: Set<Promise<void>>) {
    this.#closing = closing
  }

  use<T extends Disposable | AsyncDisposable>(resource: T): T {
    return this.#opened.use(resource)
  }

  /** The caller that began a transfer may return while others wait for it, and the transfer continues. */
  readonly keepOpen = (until: Promise<unknown>): void => {
    this.#streams.add(until)
    const forget = () => this.#streams.delete(until)
    until.then(forget, forget)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#streams.size === 0) {
      await this.#opened.disposeAsync()
      return
    }
    const closing = Promise.allSettled(this.#streams)
      .then(async () => this.#opened.disposeAsync())
      // The request that it was opened for has been answered; the next sweep removes the rest.
      .catch(() => undefined)
      .finally(() => this.#closing.delete(closing))
    this.#closing.add(closing)
  }
}
