import { hash } from 'node:crypto'
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { inflateSpan } from '../compression/index.ts'
import { LoamError } from '../errors/index.ts'
import { type LazyIndex, readLazyIndex, spanOf } from '../lazy-index/index.ts'
import type { LayerTask } from './layer-task.ts'

/**
 * Decompresses spans of a blob and writes them where the tar has them. `source` yields the bytes of the blob from the first span on, to the end of the last.
 * @throws LAZY_INDEX_INVALID, COMPRESSION_INVALID, DIGEST_MISMATCH for a span without its sum, and the errors of the source
 */
export async function writeSpans(
  { indexPath, from, to, tarPath, limits }: Extract<LayerTask, { kind: 'spans' }>,
  source: AsyncIterable<Buffer>,
): Promise<undefined> {
  const index = readLazyIndex(readFileSync(indexPath), limits)
  const bytes = new BlobBytes(index.spans.blobStarts[from] ?? 0)
  const fd = openSync(tarPath, 'r+')
  try {
    let span = from
    for await (const chunk of source) {
      bytes.push(chunk)
      for (; span < to && spanOf(index, span).blobEnd <= bytes.end; span += 1)
        writeSpan(fd, index, span, bytes)
    }
    if (span < to)
      throw new LoamError('SIZE_MISMATCH', `read spans of ${index.blob.digest}: the blob ends early`)
  } finally {
    closeSync(fd)
  }
  return undefined
}

function writeSpan(fd: number, index: LazyIndex, span: number, bytes: BlobBytes): void {
  const { blobStart, blobEnd, tarStart, lengthBytes, bit, sum } = spanOf(index, span)
  const { compression } = index
  const window = index.window(span)
  const plain = inflateSpan({ compression, bytes: bytes.take(blobStart, blobEnd), bit, window, lengthBytes })
  if (!hash('sha256', plain, 'buffer').equals(sum))
    throw new LoamError('DIGEST_MISMATCH', `verify span ${span} of ${index.blob.digest}: it has another sum`)
  for (let done = 0; done < plain.length; )
    done += writeSync(fd, plain, done, plain.length - done, tarStart + done)
}

/** Bytes of a blob that have come and are still needed. */
class BlobBytes {
  readonly #chunks: Buffer[] = []
  /** Place of the first kept byte. */
  #start: number
  end: number

  constructor(start: number) {
    this.#start = start
    this.end = start
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.end += chunk.length
  }

  /** Returns a part, and forgets what is before it. */
  take(from: number, to: number): Buffer {
    for (
      let [first] = this.#chunks;
      first !== undefined && this.#start + first.length <= from;
      [first] = this.#chunks
    ) {
      this.#start += first.length
      this.#chunks.shift()
    }
    const parts: Buffer[] = []
    let at = this.#start
    for (const chunk of this.#chunks) {
      if (at >= to) break
      parts.push(chunk.subarray(Math.max(0, from - at), Math.min(chunk.length, to - at)))
      at += chunk.length
    }
    // Copied: the rest of a chunk may be needed for the next span.
    return Buffer.concat(parts)
  }
}
