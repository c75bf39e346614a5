/* What the threads that fill do; each answer has the number of its job. */
import type { SpanCompression } from '../compression/index.ts'
import type { SharedBytes } from './shared-memory.ts'
import type { Digest, DigestAlgorithm } from '../image/index.ts'

/** The file of a lazy index. */
export interface IndexFile {
  readonly path: string
  /** Digest of the file: its path may have another one later. */
  readonly digest: Digest
}

/** One span of a layer's tar. */
export interface SpanPlace {
  /** Descriptor of the tar that was opened before the mark, so that its reads and writes wait for nobody. */
  readonly fd: number
  readonly tarStart: number
  readonly lengthBytes: number
  /** sha256 of its bytes. */
  readonly sum: Uint8Array
}

/** Decompresses a span, verifies it and writes it. */
interface FillJob extends SpanPlace {
  readonly kind: 'fill'
  readonly span: number
  /** Bytes of the blob, in memory that threads share. */
  readonly bytes: SharedBytes
  readonly bit: number
  readonly compression: SpanCompression
  /** The lazy index, which has the window. */
  readonly index: IndexFile
}

/** Reads a span that an earlier boot has claimed, and verifies it. */
interface CheckJob extends SpanPlace {
  readonly kind: 'check'
}

/** Writes a span that is decompressed already, after it was verified. */
interface WriteJob extends SpanPlace {
  readonly kind: 'write'
  readonly bytes: SharedBytes
}

/** Hashes the whole tar, and compares the skeleton of the index with it. */
interface VerifyJob {
  readonly kind: 'verify'
  readonly fd: number
  readonly tarBytes: number
  /** Of the diffID. */
  readonly algorithm: DigestAlgorithm
  readonly index: IndexFile
}

export type SpanJob = FillJob | CheckJob | WriteJob | VerifyJob

export type SpanOutcome =
  | { readonly kind: 'here' }
  /** Its bytes are not those of the index. */
  | { readonly kind: 'wrong'; readonly why: string }
  /** The disk is full. */
  | { readonly kind: 'full' }
  | { readonly kind: 'failed'; readonly why: string }
  | { readonly kind: 'verified'; readonly digest: Digest; readonly isSkeletonRight: boolean }

export interface ThreadRequest {
  readonly id: number
  readonly job: SpanJob
}

export interface ThreadAnswer {
  readonly id: number
  readonly outcome: SpanOutcome
}
