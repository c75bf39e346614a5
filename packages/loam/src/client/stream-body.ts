import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

/** The body of a request, as it comes from a stream. */
export class StreamBody {
  /** The error of the stream; undefined while it works. */
  failure: unknown
  readonly #stream: AsyncIterable<Uint8Array>
  readonly #over = new AbortController()

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#stream = stream
  }

  /** Sends it to a request. A failure of the stream destroys the request. */
  sendTo(request: Writable): void {
    // The request fails with the error, so the caller gets it.
    pipeline(this.#chunks(), request, { signal: this.#over.signal }).catch(() => undefined)
  }

  /** Sends nothing more: a daemon that has answered does not need the rest. */
  stop(): void {
    this.#over.abort()
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of this.#stream) yield chunk
    } catch (error) {
      this.failure = error
      throw error
    }
  }
}
