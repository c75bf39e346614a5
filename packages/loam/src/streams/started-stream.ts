/**
 * A stream that is being read from the moment it was handed over: the output of a process that has ended is lost if nobody reads it by then. It is read
 * once, and is closed at the end, also if nobody has read it.
 */
export class StartedStream<Chunk> implements AsyncIterable<Chunk>, Disposable {
  readonly #iterator: AsyncIterator<Chunk>
  #first: Promise<IteratorResult<Chunk>> | undefined

  constructor(stream: AsyncIterable<Chunk>) {
    this.#iterator = stream[Symbol.asyncIterator]()
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
    // It may wait for data that never arrives, and no caller waits for it.
    this.#iterator.return?.().catch(() => undefined)
  }

  async #next(): Promise<IteratorResult<Chunk>> {
    return this.#iterator.next()
  }
}

/** Begins to read a stream; undefined for a name of something else. */
export function startReading<Chunk>(source: string | AsyncIterable<Chunk>): StartedStream<Chunk> | undefined {
  return typeof source === 'string' ? undefined : new StartedStream(source)
}
