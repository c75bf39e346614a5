import { writeFileSync } from 'node:fs'
import { traced } from '../activity/index.ts'
import { type IngestArea, moveOver, type StorePaths } from '../content/index.ts'
import { faultOfFile, throwIfAborted } from '../errors/index.ts'
import { type Digest, digestOf } from '../image/index.ts'
import { readStored, unlinkIfThere } from '../linux/index.ts'
import type { LazySource } from '../metadata/index.ts'
import { sizeOf, statOf } from './file-state.ts'
import { hashFile, type LayerWorkers } from './worker-pool.ts'

/** Returns whether the file of a lazy index has this digest; one that is missing or cannot be read has not. */
export async function hasIndex(
  workers: LayerWorkers,
  path: string,
  digest: Digest,
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    return sizeOf(path) !== undefined && (await hashFile(workers, path, { signal })) === digest
  } catch (error) {
    if (faultOfFile(error) === undefined) throw error
    return false
  }
}

export interface IndexFileParts {
  readonly paths: StorePaths
  readonly workers: LayerWorkers
  readonly ingest: () => IngestArea
}

/** The lazy index that a layer was pulled by, its file, and one that a caller has found, which may be the same one. */
export interface WantedIndex {
  readonly source: LazySource
  readonly path: string
  readonly index:
    | { readonly indexDigest: Digest | undefined; readonly bytes: () => Promise<Buffer> }
    | undefined
}

/** Returns whether the file of a layer's index is that index, after it was fetched again if it was not. @throws CANCELED */
export async function ensureIndex(
  { workers, paths, ingest }: IndexFileParts,
  { source: { diffId, indexDigest }, path, index }: WantedIndex,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (await hasIndex(workers, path, indexDigest, signal)) return true
  if (index === undefined || (index.indexDigest ?? indexDigest) !== indexDigest) return false
  const fetched = ingest().newPath('lazy-index')
  try {
    const bytes = await traced('layer.index', { diffId }, index.bytes)
    // One that is made of the tables of a blob may have another digest now.
    if (digestOf(bytes) !== indexDigest) return false
    writeFileSync(fetched, bytes, { flag: 'wx', mode: 0o600 })
    moveOver(paths, fetched, path)
    return true
  } catch {
    throwIfAborted(signal, `fetch the lazy index of layer ${diffId}`)
    return false
  } finally {
    unlinkIfThere(fetched)
  }
}

/** What is known of files of lazy indexes, so that a start need not read them. */
export class KnownIndexes {
  /** By path: the state of the file when it was read, and its digest. */
  readonly #read = new Map<string, { readonly state: string; readonly digest: Digest | undefined }>()

  /**
   * Returns whether a file is there and has a digest that it had at a moment. It is read only if it was changed after that, and once for each change. A change
   * that the clock hides is found by the process that fills the layer.
   */
  isStill(path: string, digest: Digest, wasRightAtMs: number): boolean {
    const stats = statOf(path)
    if (stats?.isFile() !== true) return false
    // The time of a record has no fractions.
    if (Math.floor(stats.ctimeMs) <= wasRightAtMs) return true
    const state = [stats.ino, stats.size, stats.ctimeMs].join()
    const known = this.#read.get(path)
    const found = known?.state === state ? known : { state, digest: digestOfFile(path) }
    this.#read.set(path, found)
    return found.digest === digest
  }
}

function digestOfFile(path: string): Digest | undefined {
  try {
    return digestOf(readStored(path))
  } catch (error) {
    if (faultOfFile(error) === undefined) throw error
    return undefined
  }
}
