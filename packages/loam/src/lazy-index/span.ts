import { SUM_BYTES } from './format.ts'
import type { IndexedBlob, SpanTable } from './types.ts'

/** One span of a table. */
export interface Span {
  /** First byte of the blob that it needs, and the one after the last. */
  readonly blobStart: number
  readonly blobEnd: number
  readonly tarStart: number
  readonly lengthBytes: number
  /** Bits of the first byte that belong to the block before. */
  readonly bit: number
  /** sha256 of its bytes of the tar. */
  readonly sum: Buffer
}

/** Returns one span of an index with random access. */
export function spanOf(
  { spans, blob }: Pick<IndexedBlob, 'blob'> & { readonly spans: SpanTable },
  span: number,
): Span {
  const { blobStarts, tarStarts, bits, sums } = spans
  const tarStart = tarStarts[span] ?? 0
  return {
    blobStart: blobStarts[span] ?? 0,
    // Its last bits may be in the first byte of the next span.
    blobEnd: Math.min(blob.sizeBytes, (blobStarts[span + 1] ?? blob.sizeBytes) + 1),
    tarStart,
    lengthBytes: (tarStarts[span + 1] ?? 0) - tarStart,
    bit: bits[span] ?? 0,
    sum: sums.subarray(span * SUM_BYTES, (span + 1) * SUM_BYTES),
  }
}
