import { cancelable, LoamError, toLoamError } from '../errors/index.ts'
import type { LayerBlob } from '../transform/index.ts'

/** A layer of this size is here before a thread has begun. */
const MAX_SMALL_BYTES = 256 << 10
/** Small blobs that may be under way or wait for a thread: 4 MiB at most. */
const MAX_AT_ONCE = 16

/**
 * Fetches small blobs into memory before a thread is asked for: no thread waits for a server then, and many layers take few round trips.
 * Those beyond the limit wait in order.
 */
export class SmallBlobs {
  #free = MAX_AT_ONCE
  readonly #waiting: (() => void)[] = []

  /** Returns whether a blob is one. */
  static isSmall({ sizeBytes }: LayerBlob): boolean {
    return sizeBytes <= MAX_SMALL_BYTES
  }

  /** Fetches a blob, and gives its pieces to `use`. @throws the errors of the source and of `use`; CANCELED when the signal fires */
  async with<T>(
    open: (signal: AbortSignal) => AsyncIterable<Buffer>,
    use: (pieces: readonly Buffer[]) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    await this.#enter(signal)
    try {
      const pieces = await cancelable(signal, 'fetch layer', async () =>
        collect(open(signal ?? new AbortController().signal)),
      )
      return await use(pieces)
    } finally {
      this.#leave()
    }
  }

  async #enter(signal: AbortSignal | undefined): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const turn = () => {
      resolve()
    }
    this.#waiting.push(turn)
    const giveUp = () => {
      const at = this.#waiting.indexOf(turn)
      if (at < 0) return
      this.#waiting.splice(at, 1)
      reject(new LoamError('CANCELED', 'wait to fetch a layer: canceled', { cause: signal?.reason }))
    }
    signal?.addEventListener('abort', giveUp)
    try {
      await promise
    } finally {
      signal?.removeEventListener('abort', giveUp)
    }
  }

  #leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free += 1
    else next()
  }
}

async function collect(source: AsyncIterable<Buffer>): Promise<Buffer[]> {
  const pieces: Buffer[] = []
  let bytes = 0
  try {
    for await (const piece of source) {
      // A blob that is too long is refused where it is read.
      if (bytes > MAX_SMALL_BYTES) break
      bytes += piece.length
      pieces.push(piece)
    }
  } catch (error) {
    throw toLoamError(error, 'fetch layer')
  }
  return pieces
}
