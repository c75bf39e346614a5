import { copyFile, readFile } from 'node:fs/promises'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { traced, tracedStream } from '../activity/index.ts'
import {
  type IngestArea,
  layerPath,
  LAZY_INDEX_NAME,
  lockPath,
  moveOver,
  type StorePaths,
} from '../content/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import { chunkedRange, parseChunkedLayer, readLazyIndex } from '../lazy-index/index.ts'
import { FileLock, unlinkIfThere } from '../linux/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import type { LayerLimits } from '../tree/index.ts'
import { sizeOf } from './file-state.ts'
import type { WantedLayer } from './wanted-layer.ts'
import { hashFile, type LayerWorkers } from './worker-pool.ts'

/** The lazy index of a layer's blob, in a file. */
export interface LayerIndex {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly path: string
}

export interface LayerIndexesOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly workers: LayerWorkers
  readonly ingest: () => IngestArea
  readonly limits: LayerLimits
}

/** How an index is made. */
export interface MakeIndexOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes of the blob that were read. */
  readonly onReceived?: ((receivedBytes: number) => void) | undefined
}

/** The lazy indexes that a store has made: each is in the directory of its layer, and is removed with it. */
export class LayerIndexes {
  readonly #options: LayerIndexesOptions

  constructor(options: LayerIndexesOptions) {
    this.#options = options
  }

  /**
   * Finds the index of a blob of a layer: one that this store has made, or that of a layer that was pulled lazily and is complete, which has proved it.
   * @throws system errors
   */
  async find(diffId: DiffId, blob: Digest, signal?: AbortSignal): Promise<LayerIndex | undefined> {
    const { metadata, workers, limits } = this.#options
    const path = this.#path(diffId)
    if (metadata.layers.find(diffId)?.data !== 'complete' || sizeOf(path) === undefined) return undefined
    try {
      const index = readLazyIndex(await readFile(path), limits)
      if (index.blob.digest !== blob || index.diffId !== diffId) return undefined
    } catch (error) {
      // A power cut may have damaged it: it is made once more.
      if (isLoamError(error, 'LAZY_INDEX_INVALID', 'LAYER_LIMIT')) return undefined
      throw error
    }
    const digest = await hashFile(workers, path, { signal })
    return metadata.layers.denialOf(digest) === undefined
      ? { digest, sizeBytes: statSync(path).size, path }
      : undefined
  }

  /**
   * Makes the index of a layer from its blob, in a new file for unfinished work. Returns undefined if blobs of its compression have none. @throws the
   * errors of the source, DIGEST_MISMATCH, SIZE_MISMATCH and those of a damaged layer
   */
  async make(
    { diffId, blob, open }: Pick<WantedLayer, 'diffId' | 'blob' | 'open'>,
    { signal, onReceived }: MakeIndexOptions = {},
  ): Promise<LayerIndex | undefined> {
    const { ingest, workers, limits } = this.#options
    const target = ingest().newPath('lazy-index')
    const source = (given: AbortSignal) => tracedStream('layer.fetch', {}, () => open({ signal: given }))
    try {
      const made = await traced('layer.lazyIndex', { diffId }, async () =>
        workers.run(
          { kind: 'lazy-index', blob, diffId, target, limits },
          { source, signal, onProgress: onReceived },
        ),
      )
      if (!made) return undefined
      const digest = await hashFile(workers, target, { signal })
      return { digest, sizeBytes: statSync(target).size, path: target }
    } catch (error) {
      unlinkIfThere(target)
      throw error
    }
  }

  /** Returns whether a blob is one of zstd:chunked by the annotations of its layer: it has tables that an index can be made from. */
  hasChunked(annotations: Readonly<Record<string, string>>, blobBytes: number): boolean {
    return parseChunkedLayer(annotations, blobBytes) !== undefined
  }

  /**
   * Makes that index from the tables, which are fetched and verified. @throws LAZY_INDEX_INVALID, DOCUMENT_INVALID, TAR_INVALID, LAYER_LIMIT, and the errors
   * of the source
   */
  async makeChunked(
    { diffId, blob, open }: Pick<WantedLayer, 'diffId' | 'blob' | 'open'>,
    annotations: Readonly<Record<string, string>>,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const { ingest, workers, limits } = this.#options
    const layer = parseChunkedLayer(annotations, blob.sizeBytes)
    if (layer === undefined)
      throw new LoamError('LAZY_INDEX_INVALID', `read the TOC of ${blob.digest}: it has none`)
    const target = ingest().newPath('lazy-index')
    const source = (given: AbortSignal) => open({ ...chunkedRange(layer), signal: given })
    try {
      await traced('layer.lazyIndex', { diffId }, async () =>
        workers.run({ kind: 'chunked-index', blob, diffId, layer, target, limits }, { source, signal }),
      )
      return await readFile(target)
    } finally {
      unlinkIfThere(target)
    }
  }

  /**
   * Keeps an index beside its layer, if the layer is in the store and was not pulled lazily by another one, which is needed when its data is evicted.
   * @throws system errors
   */
  async keep(diffId: DiffId, { digest, path }: LayerIndex, signal?: AbortSignal): Promise<void> {
    const { paths, metadata, ingest } = this.#options
    using _lease = await FileLock.acquire(lockPath(paths, 'layer', diffId), { shared: true, signal })
    if (metadata.layers.find(diffId)?.data !== 'complete' || path === this.#path(diffId)) return
    if ((metadata.layers.partialSource(diffId)?.indexDigest ?? digest) !== digest) return
    const copy = ingest().newPath('lazy-index')
    try {
      await copyFile(path, copy)
      moveOver(paths, copy, this.#path(diffId))
    } finally {
      unlinkIfThere(copy)
    }
  }

  #path(diffId: DiffId): string {
    return join(layerPath(this.#options.paths, diffId), LAZY_INDEX_NAME)
  }
}
