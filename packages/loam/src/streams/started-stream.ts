import { LoamError } from '../errors/index.ts'

/**
 * A stream that is being read from the moment it was handed over: the output of a process that has ended is lost if nobody reads it by then. It is read
 * once, and is closed at the end, also if nobody has read it.
 */
export class StartedStream<Chunk> implements AsyncIterable<Chunk>, Disposable {
  readonly #stream: AsyncIterable<Chunk>
  readonly #iterator: AsyncIterator<Chunk>
  #first: Promise<IteratorResult<Chunk>> | undefined

  /** @throws USAGE for what is no stream, which programs without types may give */
  constructor(stream: AsyncIterable<Chunk>) {
    if (!isStream(stream))
      throw new LoamError('USAGE', 'read a stream: this is none', {
        hint: 'Give a path, or a stream of bytes: Readable.from([buffer])',
      })
    this.#stream = stream
    this.#iterator = stream instanceof ReadableStream ? webIterator(stream) : stream[Symbol.asyncIterator]()
    this.#first = this.#next()
    // Whoever reads it gets the error.
    this.#first.catch(() => undefined)
  }

  [Symbol.asyncIterator](): AsyncIterator<Chunk> {
    return {
      next: async () => {
        const first = this.#first
        this.#first = undefined
        return first ?? this.#next()
      },
      return: async (value: unknown) => (await this.#iterator.return?.(value)) ?? { done: true, value },
    }
  }

  [Symbol.dispose](): void {
    // An iterator is closed only when what was asked of it has come, and no caller waits for that.
    if (isDestroyable(this.#stream)) this.#stream.destroy()
    void this.#close().catch(() => undefined)
  }

  async #close(): Promise<void> {
    await this.#iterator.return?.()
  }

  async #next(): Promise<IteratorResult<Chunk>> {
    return this.#iterator.next()
  }
}

/** Begins to read a stream; undefined for a name of something else. @throws USAGE for what is neither */
export function startReading<Chunk>(source: string | AsyncIterable<Chunk>): StartedStream<Chunk> | undefined {
  return typeof source === 'string' ? undefined : new StartedStream(source)
}

/** The iterator of a web stream itself is closed only when its next chunk has come; a reader cancels at once. */
function webIterator<Chunk>(stream: ReadableStream<Chunk>): AsyncIterator<Chunk> {
  const reader = stream.getReader()
  return {
    next: async () => {
      const { done, value } = await reader.read()
      if (done) reader.releaseLock()
      return done ? { done, value: undefined } : { done, value }
    },
    return: async () => {
      await reader.cancel()
      reader.releaseLock()
      return { done: true, value: undefined }
    },
  }
}

function isDestroyable(stream: object): stream is { destroy: () => void } {
  return 'destroy' in stream && typeof stream.destroy === 'function'
}

function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}
