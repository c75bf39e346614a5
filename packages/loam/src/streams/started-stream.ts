import { LoamError } from '../errors/index.ts'

/**
 * A stream that is being read from the moment it was handed over: the output of a process that has ended is lost if nobody reads it by then. It is read
 * once, and is closed at the end, also if nobody has read it.
 */
export class StartedStream<Chunk> implements AsyncIterable<Chunk>, Disposable {
  readonly #iterator: AsyncIterator<Chunk>
  #first: Promise<IteratorResult<Chunk>> | undefined

  /** @throws USAGE for what is no stream, which programs without types may give */
  constructor(stream: AsyncIterable<Chunk>) {
    if (!isStream(stream))
      throw new LoamError('USAGE', 'read a stream: this is none', {
        hint: 'Give a path, or a stream of bytes: Readable.from([buffer])',
      })
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

/** Begins to read a stream; undefined for a name of something else. @throws USAGE for what is neither */
export function startReading<Chunk>(source: string | AsyncIterable<Chunk>): StartedStream<Chunk> | undefined {
  return typeof source === 'string' ? undefined : new StartedStream(source)
}

function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}
