import { isMarkedAsUntransferable } from 'node:worker_threads'

/**
 * Returns whether the owner of a chunk may give its memory away: it is no part of a pool (Node marks those), and nothing lies
 * behind the chunk that may still be read. The data before it in the same memory has been read by then.
 */
export function canGiveAway(chunk: Buffer): boolean {
  const { buffer } = chunk
  return (
    buffer instanceof ArrayBuffer &&
    chunk.byteOffset + chunk.length === buffer.byteLength &&
    !isMarkedAsUntransferable(buffer)
  )
}

/** Memory for pieces of one size that goes round: taken, filled, used, and given back. */
export class ChunkPool {
  readonly #chunkBytes: number
  readonly #free: Buffer[] = []
  readonly #own = new WeakSet<ArrayBufferLike>()

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes
  }

  take(): Buffer {
    const known = this.#free.pop()
    if (known !== undefined) return known
    const chunk = Buffer.allocUnsafeSlow(this.#chunkBytes)
    this.#own.add(chunk.buffer)
    return chunk
  }

  /** Takes back the memory of a chunk that is not used any more; memory that was never the pool's is freed. Give each chunk once. */
  give(chunk: Buffer): void {
    if (this.#own.has(chunk.buffer)) this.#free.push(Buffer.from(chunk.buffer))
    else releaseChunk(chunk)
  }
}

/**
 * Gives the memory of a chunk back at once, for the owner who is done with it. Waiting for the garbage collector to see
 * it costs some 60 MiB for each layer under way.
 */
export function releaseChunk(chunk: Buffer): void {
  if (chunk.length > 0 && canGiveAway(chunk) && chunk.buffer instanceof ArrayBuffer) chunk.buffer.transfer(0)
}
