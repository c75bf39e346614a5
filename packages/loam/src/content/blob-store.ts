import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { type Digest, digestOf, isDigest, splitDigest } from '../image/index.ts'
import { syncDirectory, syncFile } from '../linux/index.ts'
import type { IngestArea } from './ingest-area.ts'
import { blobPath, type StorePaths } from './store-paths.ts'

/**
 * Documents by their digest: manifests, indexes, configs. Small, so that they are read and written whole. What
 * cannot be verified never gets its name, and what is read is verified again, so that bit rot is a miss.
 */
export class BlobStore {
  readonly #paths: StorePaths

  constructor(paths: StorePaths) {
    this.#paths = paths
  }

  /** Returns the bytes, undefined when they are missing or damaged. */
  find(digest: Digest, maxBytes: number): Buffer | undefined {
    const bytes = readBounded(blobPath(this.#paths, digest), maxBytes)
    if (bytes === undefined) return undefined
    return digestOf(bytes, splitDigest(digest).algorithm) === digest ? bytes : undefined
  }

  /**
   * Keeps bytes under their digest. Keeping the same ones again changes nothing. Waits for no disk: what a power cut takes is a miss.
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
    if (this.find(digest, bytes.length) !== undefined) return
    const path = blobPath(this.#paths, digest)
    const unfinished = ingest.newPath('blob')
    try {
      writeFileSync(unfinished, bytes, { flag: 'wx', mode: 0o600 })
      renameSync(unfinished, path)
    } catch (error) {
      if (existsSync(unfinished)) unlinkSync(unfinished)
      throw toLoamError(error, `write blob ${digest}`)
    }
  }

  /** Waits until documents are on the disk. */
  async makeDurable(digests: readonly Digest[]): Promise<void> {
    const paths = digests.map((digest) => blobPath(this.#paths, digest)).filter((path) => existsSync(path))
    await Promise.all(paths.map(syncFile))
    for (const folder of new Set(paths.map((path) => dirname(path)))) syncDirectory(folder)
  }

  /** Lists what is there. */
  list(): Digest[] {
    return (['sha256', 'sha512'] as const).flatMap((algorithm) =>
      readdirSync(join(this.#paths.blobs, algorithm))
        .map((hex) => `${algorithm}:${hex}`)
        .filter(isDigest),
    )
  }

  remove(digest: Digest): void {
    try {
      unlinkSync(blobPath(this.#paths, digest))
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
}

function readBounded(path: string, maxBytes: number): Buffer | undefined {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    const size = fstatSync(fd).size
    if (size > maxBytes) return undefined
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
