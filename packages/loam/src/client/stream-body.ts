import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { StartedStream } from '../streams/index.ts'

/** The body of a request, as it comes from a stream, which is being read at once. */
export class StreamBody {
  /** The error of the stream; undefined while it works. */
  failure: unknown
  readonly #stream: StartedStream<Uint8Array>
  readonly #over = new AbortController()

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#stream = new StartedStream(stream)
  }

  /** Sends it to a request. A failure of the stream destroys the request. */
  sendTo(request: Writable): void {
    // The request fails with the error, so the caller gets it.
    pipeline(this.#chunks(), request, { signal: this.#over.signal }).catch(() => undefined)
  }

  /** Closes the stream, and sends nothing more: a daemon that has answered does not need the rest. */
  stop(): void {
    this.#over.abort()
    this.#stream[Symbol.dispose]()
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
