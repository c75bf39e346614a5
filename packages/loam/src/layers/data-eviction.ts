import { mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import {
  type IngestArea,
  LAZY_INDEX_NAME,
  layerPath,
  lockPath,
  META_NAME,
  SPAN_MAP_NAME,
  type StorePaths,
  TAR_NAME,
} from '../content/index.ts'
import type { DiffId } from '../image/index.ts'
import { FileLock, removeTree, unlinkIfThere } from '../linux/index.ts'
import type { CompleteLayer, LazySource, MetadataStore } from '../metadata/index.ts'
import { TREE_GENERATION } from '../tree/index.ts'
import { newArtifactRecord } from './artifact-record.ts'
import { createSparse, sizeOf } from './file-state.ts'
import { hasIndex } from './index-file.ts'
import type { LazyParts } from './partial-layers.ts'
import type { PrunedLayer } from './prune.ts'
import type { LayerWorkers } from './worker-pool.ts'

export interface DataEvictionOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly ingest: () => IngestArea
  readonly bootId: string
  readonly workers: LayerWorkers
  /** Undefined: no layer is pulled lazily, and no data is evicted. */
  readonly lazy?: LazyParts | undefined
}

/**
 * Makes complete layers partial again, so that their data takes no space until it is read. A layer qualifies if it was pulled lazily, so that it is
 * known where its data comes from, and its lazy index has proved right; and if no root filesystem and no snapshot shows it.
 */
export class DataEviction {
  readonly #options: DataEvictionOptions

  constructor(options: DataEvictionOptions) {
    this.#options = options
  }

  /** Lists the layers that `evict` may evict, with the bytes of their tars. Whether a layer's index is sound shows when it reads that. */
  candidates(): PrunedLayer[] {
    return this.#options.metadata.layers.list().flatMap((layer) => {
      const isIncluded = this.#find(layer.diffId) !== undefined
      return isIncluded ? [{ diffId: layer.diffId, tarBytes: layer.tarBytes }] : []
    })
  }

  #find(diffId: DiffId): { readonly layer: CompleteLayer; readonly source: LazySource } | undefined {
    const { lazy, metadata } = this.#options
    const { layers } = metadata
    if (lazy === undefined) return undefined
    const layer = layers.find(diffId)
    const source = layers.partialSource(diffId)
    if (layer?.data !== 'complete' || source === undefined) return undefined
    const isSound =
      layer.summary.generation === TREE_GENERATION &&
      layers.denialOf(source.indexDigest) === undefined &&
      [LAZY_INDEX_NAME, META_NAME].every((name) => sizeOf(this.#path(diffId, name)) !== undefined)
    return isSound && !layers.isShown(diffId) ? { layer, source } : undefined
  }

  /**
   * Evicts the data of a layer; returns false if it does not qualify, or is in use. A dry run returns the same and leaves the layer as it is. Whoever has the old tar open or mounted goes on with it: a new
   * file takes its place. The row is on the disk before that, since after a power cut it must not say that the new file is complete.
   * @throws LAZY_* if the handler cannot be asked, system errors; then the layer is as before, or partial
   */
  async evict(diffId: DiffId, { dryRun = false }: { readonly dryRun?: boolean } = {}): Promise<boolean> {
    const { paths, metadata, ingest, bootId, workers } = this.#options
    using lock = FileLock.tryAcquire(lockPath(paths, 'layer', diffId))
    const found = lock === undefined ? undefined : this.#find(diffId)
    if (found === undefined) return false
    const { layer, source } = found
    // Another image with this layer has an index of its own blob, which may have taken its place; or the file is damaged.
    if (!(await hasIndex(workers, this.#path(diffId, LAZY_INDEX_NAME), source.indexDigest))) return false
    if (dryRun) return true
    // A handler that has just completed the layer may still know its old tar, and would take the new one for it.
    await this.#options.lazy?.filler.forget([diffId])
    const directory = ingest().newPath('layer')
    try {
      mkdirSync(directory, { mode: 0o700 })
      createSparse(join(directory, TAR_NAME), layer.tarBytes)
      // The next one who opens the map creates it anew.
      unlinkIfThere(this.#path(diffId, SPAN_MAP_NAME))
      const meta = newArtifactRecord(diffId, 'meta', bootId)
      await metadata.layers.makePartial({ ...layer, data: 'partial' }, source, meta)
      renameSync(join(directory, TAR_NAME), this.#path(diffId, TAR_NAME))
    } finally {
      await removeTree(directory)
    }
    return true
  }

  #path(diffId: DiffId, name: string): string {
    return join(layerPath(this.#options.paths, diffId), name)
  }
}
