import {
  closeSync,
  existsSync,
  fstatSync,
  readdirSync,
  readSync,
  type Stats,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { faultOfFile, isErrno, LoamError, toLoamError } from '../errors/index.ts'
import {
  type Digest,
  digestOf,
  type DocumentKind,
  type DocumentLimits,
  checkDocumentSize,
  limitOf,
  isDigest,
  splitDigest,
} from '../image/index.ts'
import { openRegular, syncDirectory, syncFile } from '../linux/index.ts'
import type { IngestArea } from './ingest-area.ts'
import { blobPath, type StorePaths } from './store-paths.ts'
import { clearName, moveOver } from './trash.ts'

/** Two changes of a file may have the same time if the clock of the kernel has not moved on between them. */
const SETTLED_MS = 1_000
const MAX_REMEMBERED = 10_000

/** The result of reading a document of the store. */
type Reading =
  | { readonly state: 'sound'; readonly bytes: Buffer }
  | { readonly state: 'missing' }
  /** `why`: known if it cannot be read. */
  | { readonly state: 'damaged'; readonly why?: string }
  | { readonly state: 'too large'; readonly sizeBytes: number }

/**
 * Documents by their digest: manifests, indexes, configs. They are small, so they are read and written whole. A document
 * gets its name only after it was verified, and is verified again when it is read. Every document of an image is read here,
 * within the limit of its kind.
 */
export class BlobStore {
  readonly #paths: StorePaths
  readonly #limits: DocumentLimits
  /** States of files that were read and were sound. */
  readonly #sound = new Map<Digest, string>()

  constructor(paths: StorePaths, limits: DocumentLimits) {
    this.#paths = paths
    this.#limits = limits
  }

  /** Returns the bytes, undefined when they are missing, damaged or too large: for callers that can fetch them again. */
  find(digest: Digest, kind: DocumentKind): Buffer | undefined {
    const reading = this.#read(digest, limitOf(kind, this.#limits).maxBytes)
    return reading.state === 'sound' ? reading.bytes : undefined
  }

  /** Returns the bytes. @throws DOCUMENT_DAMAGED when they are missing or damaged, DOCUMENT_TOO_LARGE */
  get(digest: Digest, kind: DocumentKind): Buffer {
    const reading = this.#read(digest, limitOf(kind, this.#limits).maxBytes)
    if (reading.state === 'sound') return reading.bytes
    const attempted = `read ${kind} ${digest}`
    if (reading.state === 'too large')
      checkDocumentSize(attempted, reading.sizeBytes, limitOf(kind, this.#limits))
    const why = reading.state === 'damaged' && reading.why !== undefined ? ` (${reading.why})` : ''
    throw new LoamError('DOCUMENT_DAMAGED', `${attempted}: it is ${reading.state} in the store${why}`, {
      hint: '`loam fsck --repair` refetches it if its source still has it.',
    })
  }

  /** Returns the problem of a document of the store; undefined if it is sound. */
  findProblem(digest: Digest, kind: DocumentKind): string | undefined {
    try {
      this.get(digest, kind)
      return undefined
    } catch (error) {
      return toLoamError(error, `read ${kind} ${digest}`).message
    }
  }

  /**
   * As `findProblem`, for lists of many documents: a document that was found sound here is read again only if its file has changed. What a disk has changed by
   * itself is found by those that read the document.
   */
  findNewProblem(digest: Digest, kind: DocumentKind): string | undefined {
    const before = this.#stateOf(digest)
    if (before !== undefined && this.#sound.get(digest) === before.state) return undefined
    const problem = this.findProblem(digest, kind)
    if (problem === undefined && before?.isSettled === true) this.#remember(digest, before.state)
    return problem
  }

  /** Returns what tells a file from a changed one, and whether it is too old for a change that its times do not show; undefined if that is unknown. */
  #stateOf(digest: Digest): { readonly state: string; readonly isSettled: boolean } | undefined {
    let stats: Stats
    try {
      stats = statSync(blobPath(this.#paths, digest))
    } catch {
      // Whoever reads the document says what is wrong.
      return undefined
    }
    const { ino, size, ctimeMs } = stats
    return { state: [ino, size, ctimeMs].join(), isSettled: Date.now() - ctimeMs > SETTLED_MS }
  }

  #remember(digest: Digest, state: string): void {
    const [oldest] = this.#sound.keys()
    if (this.#sound.size >= MAX_REMEMBERED && oldest !== undefined) this.#sound.delete(oldest)
    this.#sound.set(digest, state)
  }

  #read(digest: Digest, maxBytes: number): Reading {
    const path = blobPath(this.#paths, digest)
    let read: Buffer | number
    try {
      read = readBounded(path, maxBytes)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return { state: 'missing' }
      const why = isErrno(error, 'EACCES', 'EPERM') ? undefined : faultOfFile(error)
      if (why === undefined) throw error
      return { state: 'damaged', why: why.replace(`read ${path}: `, '') }
    }
    if (typeof read === 'number') return { state: 'too large', sizeBytes: read }
    const isSound = digestOf(read, splitDigest(digest).algorithm) === digest
    return isSound ? { state: 'sound', bytes: read } : { state: 'damaged' }
  }

  /**
   * Stores bytes under their digest. Storing the same bytes again changes nothing. Does not wait for the disk: a power cut makes it a miss.
   * @throws DIGEST_MISMATCH and system errors
   */
  put(digest: Digest, bytes: Buffer, ingest: IngestArea): void {
    const actual = digestOf(bytes, splitDigest(digest).algorithm)
    if (actual !== digest) {
      throw new LoamError(
        'DIGEST_MISMATCH',
        `verify blob ${digest}: its ${bytes.length} bytes have the digest ${actual}`,
      )
    }
    if (this.#read(digest, bytes.length).state === 'sound') return
    const path = blobPath(this.#paths, digest)
    const unfinished = ingest.newPath('blob')
    try {
      writeFileSync(unfinished, bytes, { flag: 'wx', mode: 0o600 })
      moveOver(this.#paths, unfinished, path)
    } catch (error) {
      if (existsSync(unfinished)) unlinkSync(unfinished)
      throw toLoamError(error, `write blob ${digest}`)
    }
  }

  /** Waits until documents are on the disk. */
  async sync(digests: readonly Digest[]): Promise<void> {
    const paths = digests.map((digest) => blobPath(this.#paths, digest)).filter((path) => existsSync(path))
    await Promise.all(paths.map(syncFile))
    await Promise.all([...new Set(paths.map((path) => dirname(path)))].map(syncDirectory))
  }

  /** Lists the documents. */
  list(): Digest[] {
    return (['sha256', 'sha512'] as const).flatMap((algorithm) =>
      readdirSync(join(this.#paths.blobs, algorithm))
        .map((hex) => `${algorithm}:${hex}`)
        .filter(isDigest),
    )
  }

  remove(digest: Digest): void {
    const path = blobPath(this.#paths, digest)
    try {
      unlinkSync(path)
    } catch (error) {
      if (isErrno(error, 'EISDIR')) clearName(this.#paths, path)
      else if (!isErrno(error, 'ENOENT')) throw error
    }
  }
}

/** Returns the bytes of a file, or its size when there are too many. Only a regular file is opened. */
function readBounded(path: string, maxBytes: number): Buffer | number {
  const fd = openRegular(path, 'DOCUMENT_DAMAGED')
  try {
    const size = fstatSync(fd).size
    if (size > maxBytes) return size
    const buffer = Buffer.alloc(size)
    let length = 0
    for (let read = -1; read !== 0 && length < size; length += read) {
      read = readSync(fd, buffer, length, size - length, null)
    }
    return buffer.subarray(0, length)
  } finally {
    closeSync(fd)
  }
}
