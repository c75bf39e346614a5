/*
 * The blobs of pulled layers as their registry has them, in `retained/<algorithm>-<hex>`: for pushes and exports that keep the digest of an image. They
 * were verified when they were received, and are verified again when they are used. Nothing depends on them, so that they are the first to be removed.
 */
import { closeSync, fstatSync, lstatSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { faultOfFile, isErrno } from '../errors/index.ts'
import { type Digest, isDigest } from '../image/index.ts'
import { openRegular, removeTree } from '../linux/index.ts'
import type { PartialBlob } from './partial-blob.ts'
import type { StorePaths } from './store-paths.ts'

/** Other processes add blobs, too, and blobs grow old. */
const LISTED_EVERY_MS = 60_000

/** Which blobs are retained, and for how long. */
export interface BlobRetention {
  /** `all`: as long as an image has them. `time` and `size`: also limited by that. */
  readonly mode: 'none' | 'time' | 'size' | 'all'
  readonly maxAgeMs: number
  readonly maxBytes: number
}

/** The file of a retained blob. */
export interface RetainedBlob {
  readonly digest: Digest
  readonly path: string
  readonly bytes: number
  readonly retainedAtMs: number
}

/** A retained blob that is held open: its path leads to the same bytes also after somebody has removed it. */
export class HeldBlob implements Disposable {
  readonly #fd: number

  /** Takes over the descriptor. */
  constructor(fd: number) {
    this.#fd = fd
  }

  get path(): string {
    return `/proc/self/fd/${this.#fd}`
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** The retained blobs of a store. Several processes may use them at once: a file that another one removes is not there. */
export class RetainedBlobs {
  readonly #folder: string
  readonly #retention: BlobRetention
  /** Bytes of the retained blobs, but for what other processes have changed since they were listed. */
  #knownBytes = 0
  #listedAt = Number.NEGATIVE_INFINITY

  constructor(paths: StorePaths, retention: BlobRetention) {
    this.#folder = paths.retained
    this.#retention = retention
  }

  /** Whether blobs that are received now are retained. */
  get isOn(): boolean {
    return this.#retention.mode !== 'none'
  }

  /** Retains a verified blob that was received into a partial one. Does nothing if it is incomplete there; it must not fail a pull. */
  async adopt(partial: PartialBlob, digest: Digest, sizeBytes: number): Promise<void> {
    if (this.#retention.mode === 'size' && sizeBytes > this.#retention.maxBytes) return
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
      if (!partial.moveTo(this.#pathOf(digest), sizeBytes)) return
      await this.#makeRoom(sizeBytes)
    } catch {
      // The pull has all that it needs.
    }
  }

  /** Removes what is too old or too much. Listing takes as long as there are blobs: once for a while, and when the limit may be exceeded. */
  async #makeRoom(addedBytes: number): Promise<void> {
    const { mode, maxAgeMs, maxBytes } = this.#retention
    if (mode !== 'time' && mode !== 'size') return
    this.#knownBytes += addedBytes
    const isFresh = performance.now() - this.#listedAt < LISTED_EVERY_MS
    if (isFresh && (mode === 'time' || this.#knownBytes <= maxBytes)) return
    const all = this.list()
    const bytes = all.reduce((sum, blob) => sum + blob.bytes, 0)
    const oldestMs = Date.now() - maxAgeMs
    const removed =
      mode === 'size'
        ? upTo(all, bytes - maxBytes)
        : all.filter(({ retainedAtMs }) => retainedAtMs < oldestMs)
    for (const blob of removed) await this.remove(blob)
    this.#listedAt = performance.now()
    this.#knownBytes = bytes - removed.reduce((sum, blob) => sum + blob.bytes, 0)
  }

  /** Opens the file of a blob of that size, if there is one; its digest is not verified. */
  hold(digest: Digest, sizeBytes: number): HeldBlob | undefined {
    let fd: number
    try {
      fd = openRegular(this.#pathOf(digest), 'LAYER_DAMAGED')
    } catch (error) {
      if (faultOfFile(error) !== undefined) return undefined
      throw error
    }
    const held = new HeldBlob(fd)
    if (fstatSync(fd).size === sizeBytes) return held
    held[Symbol.dispose]()
    return undefined
  }

  /** Lists the retained blobs, the oldest first. */
  list(): RetainedBlob[] {
    return namesIn(this.#folder)
      .flatMap((name) => {
        const digest = name.replace('-', ':')
        return isDigest(digest) ? (this.#describe(digest) ?? []) : []
      })
      .toSorted((one, other) => one.retainedAtMs - other.retainedAtMs)
  }

  /** Removes what the settings and the images no longer retain. Returns the removed blobs. */
  async sweep(needed: ReadonlySet<Digest>): Promise<Digest[]> {
    const { mode, maxAgeMs } = this.#retention
    const oldestMs = mode === 'time' ? Date.now() - maxAgeMs : 0
    const unneeded = this.list().filter(
      ({ digest, retainedAtMs }) => mode === 'none' || !needed.has(digest) || retainedAtMs < oldestMs,
    )
    for (const blob of unneeded) await this.remove(blob)
    const beyond = mode === 'size' ? await this.#removeBeyondSize() : []
    return [...unneeded, ...beyond].map(({ digest }) => digest)
  }

  async #removeBeyondSize(): Promise<RetainedBlob[]> {
    const all = this.list()
    const bytes = all.reduce((sum, blob) => sum + blob.bytes, 0)
    return this.#removeOldest(all, bytes - this.#retention.maxBytes)
  }

  /** Returns the oldest blobs that together free a number of bytes, or all. */
  oldest(bytes: number): RetainedBlob[] {
    return upTo(this.list(), bytes)
  }

  async #removeOldest(all: readonly RetainedBlob[], bytes: number): Promise<RetainedBlob[]> {
    const removed = upTo(all, bytes)
    for (const blob of removed) await this.remove(blob)
    return removed
  }

  async remove({ digest }: Pick<RetainedBlob, 'digest'>): Promise<void> {
    await removeTree(this.#pathOf(digest))
  }

  #pathOf(digest: Digest): string {
    return join(this.#folder, digest.replace(':', '-'))
  }

  #describe(digest: Digest): RetainedBlob | undefined {
    const path = this.#pathOf(digest)
    const stats = lstatSync(path, { throwIfNoEntry: false })
    if (stats === undefined) return undefined
    return { digest, path, bytes: stats.size, retainedAtMs: stats.mtimeMs }
  }
}

function upTo(blobs: readonly RetainedBlob[], bytes: number): RetainedBlob[] {
  let freed = 0
  return blobs.filter((blob) => {
    if (freed >= bytes) return false
    freed += blob.bytes
    return true
  })
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

/** Removes all retained blobs of a store, for a full disk. Returns how many bytes that freed. */
export async function sweepRetained({ retained }: StorePaths): Promise<number> {
  let freed = 0
  for (const name of namesIn(retained)) {
    const path = join(retained, name)
    const stats = lstatSync(path, { throwIfNoEntry: false })
    try {
      await removeTree(path)
      freed += stats?.isFile() === true ? stats.size : 0
    } catch {
      // Another sweep may be at it.
    }
  }
  return freed
}
