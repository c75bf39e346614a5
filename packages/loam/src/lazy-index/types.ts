import type { SpanCompression } from '../compression/index.ts'
import type { DiffId, Digest } from '../image/index.ts'

/** The spans of a layer: where each begins in the blob and in the tar, and its sum. */
export interface SpanTable {
  readonly count: number
  /** `count` + 1 entries: first byte of the blob that a span needs; the last is the blob's size. All others are 0 for `sequential`. */
  readonly blobStarts: Float64Array
  /** `count` + 1 entries: place of a span's first byte in the tar; the last is the tar's size. */
  readonly tarStarts: Float64Array
  /** Bits of the first byte that belong to the block before. */
  readonly bits: Uint8Array
  /** sha256 of each span's bytes of the tar, 32 bytes each. */
  readonly sums: Buffer
}

/**
 * How a blob can be read: spans `random`ly; or from its start only, since it has no checkpoints, or too few of them (one large zstd frame).
 */
export type BlobAccess = 'random' | 'sequential'

/** What a lazy index is the index of. */
export interface IndexedBlob {
  readonly blob: {
    readonly digest: Digest
    readonly sizeBytes: number
  }
  readonly diffId: DiffId
  readonly tarBytes: number
}

/** The lazy index of a layer's blob: enough to know the layer's tree, and to fetch and verify any part of its tar. */
export interface LazyIndex extends IndexedBlob {
  readonly compression: SpanCompression
  readonly access: BlobAccess
  readonly spans: SpanTable
  /** Returns the skeleton, unpacked: what the tar has besides the data of files. @throws LAZY_INDEX_INVALID */
  readonly skeleton: () => Buffer
  /** Unpacks the skeleton piece by piece. @throws LAZY_INDEX_INVALID */
  readonly skeletonPieces: () => Iterable<Buffer>
  /** Returns the window of a span: at most 32 KiB, and empty where none is needed. @throws LAZY_INDEX_INVALID */
  readonly window: (span: number) => Buffer
}
