import { isMarkedAsUntransferable } from 'node:worker_threads'
import { releaseReceived } from './received-memory.ts'

/**
 * Returns whether the owner of a chunk may release its memory: it is not part of a pool (Node marks those), and no data
 * behind the chunk may still be read. The data before it in the same memory has been read by then.
 */
function canGiveAway(chunk: Buffer): boolean {
  const { buffer } = chunk
  return (
    buffer instanceof ArrayBuffer &&
    chunk.byteOffset + chunk.length === buffer.byteLength &&
    !isMarkedAsUntransferable(buffer)
  )
}

/** Memory for pieces of one size, which is reused: taken, filled, read, and given back. */
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
 * Releases the memory of a chunk at once, for an owner that does not use it any more. Waiting for the garbage collector
 * costs some 60 MiB for each layer in progress.
 */
export function releaseChunk(chunk: Buffer): void {
  if (releaseReceived(chunk)) return
  if (chunk.length > 0 && canGiveAway(chunk) && chunk.buffer instanceof ArrayBuffer) chunk.buffer.transfer(0)
}
