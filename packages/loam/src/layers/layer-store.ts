import { statSync } from 'node:fs'
import { traced } from '../activity/index.ts'
import {
  type IngestArea,
  type SharedIndexes,
  layerPath,
  lockPath,
  Removals,
  type RetainedBlobs,
  type StorePaths,
  TAR_NAME,
} from '../content/index.ts'
import { join } from 'node:path'
import { faultOfFile, LoamError } from '../errors/index.ts'
import { type DiffId, splitDigest } from '../image/index.ts'
import { FileLock, kindOf, syncDirectory, syncFile } from '../linux/index.ts'
import type { CompleteLayer, LayerRecord, LazySource, MetadataStore } from '../metadata/index.ts'
import { type LayerLimits, TREE_GENERATION } from '../tree/index.ts'
import { newArtifactRecord } from './artifact-record.ts'
import { ArtifactStore } from './artifact-store.ts'
import { DataEviction } from './data-eviction.ts'
import { sizeOf } from './file-state.ts'
import { fetchLayer, ingestUnknown, type UnknownLayer } from './layer-fetch.ts'
import type { WantedLayer } from './wanted-layer.ts'
import { LayerLeases, type LeaseLayerOptions, type LeaseLazilyOptions } from './layer-leases.ts'
import { type LazyParts, PartialLayers } from './partial-layers.ts'
import { LayerIndexes } from './layer-indexes.ts'
import { type PrunedLayer, pruneLayers } from './prune.ts'
import { checkPartial } from './partial-check.ts'
import { SmallBlobs } from './small-blobs.ts'
import { SpanFetch } from './span-fetch.ts'
import { TreeWork } from './tree-work.ts'
import { hashFile, type LayerWorkers, type OnBytes } from './worker-pool.ts'

export interface LayerStoreOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly workers: LayerWorkers
  /** Threads that write to descriptors, whose readers may take any time. */
  readonly writers: LayerWorkers
  readonly ingest: () => IngestArea
  readonly limits: LayerLimits
  readonly bootId: string
  /** Blobs that are kept as they were received. */
  readonly retained: RetainedBlobs
  /** Undefined: no layer is pulled lazily. */
  readonly lazy?: LazyParts | undefined
  /** Make the lazy indexes of layers that are fetched from registries. */
  readonly lazyIndex?: boolean
  /** Lazy indexes that machines share; they make the fetch of large layers faster. */
  readonly indexDirectory?: SharedIndexes | undefined
  /** How large layers are fetched by their lazy indexes. Undefined: by the threads of `workers`. */
  readonly spans?: SpanFetch
}

/**
 * The layers of a store: each kept as its verified tar, with the artifacts that backends have asked for beside it.
 * Making a layer or an artifact waits for no disk. What is not known to be on the disk counts only in the boot that made it: after that a
 * layer is hashed before it is used, and an artifact, which is a cache, is rebuilt.
 * Locks: each layer and each artifact has a lock file. A lease holds the lock shared; a build or a removal holds it exclusively.
 */
export class LayerStore {
  readonly #options: LayerStoreOptions
  /** Artifacts of the layers. */
  readonly artifacts: ArtifactStore
  /** The layers whose data is not all here. */
  readonly partial: PartialLayers
  /** Removes the data of layers that can be fetched as it is read. */
  readonly eviction: DataEviction
  /** Work that threads do with layers, folders and files. */
  readonly trees: TreeWork
  readonly #leases: LayerLeases
  /** Lazy indexes of the layers. */
  readonly indexes: LayerIndexes
  readonly #removals = new Removals()
  readonly #smallBlobs = new SmallBlobs()
  readonly #spans: SpanFetch

  constructor(options: LayerStoreOptions) {
    this.#options = options
    this.#spans = options.spans ?? new SpanFetch({ workers: options.workers, limits: options.limits })
    this.artifacts = new ArtifactStore({ ...options, removals: this.#removals })
    const describe: TreeWork['describeIndex'] = async (...args) => this.trees.describeIndex(...args)
    this.partial = new PartialLayers({ ...options, lazy: options.lazy, describe })
    this.eviction = new DataEviction(options)
    this.#leases = new LayerLeases({
      paths: options.paths,
      partial: this.partial,
      isReady: (diffId) => this.#isReady(diffId),
      makeReady: async (diffId, signal) => this.#makeReady(diffId, signal),
      fetch: async (layer, request) => this.#fetch(layer, request),
      get: (diffId) => this.getLazily(diffId),
    })
    this.trees = new TreeWork({ ...options, artifacts: this.artifacts })
    this.indexes = new LayerIndexes(options)
  }

  /** Returns the record of a layer that is here with all of its data. */
  find(diffId: DiffId): CompleteLayer | undefined {
    const record = this.#findComplete(diffId)
    // A file system that lost the tar, or the end of it, leaves the record.
    const isThere = record !== undefined && sizeOf(this.tarPath(diffId)) === record.tarBytes
    return isThere && this.#isTrusted(diffId) ? record : undefined
  }

  #findComplete(diffId: DiffId): CompleteLayer | undefined {
    const record = this.#options.metadata.layers.find(diffId)
    return record?.data === 'complete' ? record : undefined
  }

  /** Returns whether a layer can be trusted: one that was not known to be on the disk before a reboot cannot. Layers without a record of it were synced. */
  #isTrusted(diffId: DiffId): boolean {
    const record = this.#options.metadata.layers.findArtifact(diffId, 'tar')
    return record === undefined || this.artifacts.counts(record)
  }

  /** Returns whether the summary of a layer is of an earlier generation, and may be wrong. */
  isOutdated({ summary }: CompleteLayer): boolean {
    return summary.generation !== TREE_GENERATION
  }

  /** Returns the record of a layer that a caller holds a lease on. @throws LAYER_NOT_FOUND */
  get(diffId: DiffId): CompleteLayer {
    return this.find(diffId) ?? throwNotFound(diffId)
  }

  /** Returns whether a caller that mounts a layer would find it here: complete, or partial. */
  isHereLazily(diffId: DiffId): boolean {
    return this.find(diffId) !== undefined || this.partial.find(diffId) !== undefined
  }

  /** Returns the record of a layer, which may be partial, that a caller holds a lazy lease on. @throws LAYER_NOT_FOUND */
  getLazily(diffId: DiffId): LayerRecord {
    return this.find(diffId) ?? this.partial.find(diffId) ?? throwNotFound(diffId)
  }

  tarPath(diffId: DiffId): string {
    return join(layerPath(this.#options.paths, diffId), TAR_NAME)
  }

  /**
   * Ensures that a layer is in the store with all of its data and returns a lease on it. Many callers, in this process and in others, cause one
   * transfer. Nothing is left behind on failure. @throws the errors of the source and of `ingestLayer`
   */
  async lease(layer: WantedLayer, options: LeaseLayerOptions = {}): Promise<FileLock> {
    return this.#leases.lease(layer, options)
  }

  /**
   * As `lease`, for a caller that mounts the layer by `StackMounts`: one that is partial, or that has a lazy index, need not have its data. A layer that
   * cannot be pulled lazily is fetched. @throws as `lease`
   */
  async leaseLazily(layer: WantedLayer, options: LeaseLazilyOptions): Promise<FileLock> {
    return this.#leases.leaseLazily(layer, options)
  }

  /**
   * Begins to serve the partial layers of a stack, whose files are sound afterwards. Returns the end of that: before it nothing may mount them. Undefined if no layer
   * is partial. Nothing may show a layer whose data is not here and does not come. @throws LAYER_NOT_FOUND for such a layer; the end, the errors of `LayerFiller.serve`
   */
  async beginToServe(
    diffIds: readonly DiffId[],
    signal?: AbortSignal,
  ): Promise<{ readonly served: Promise<void> } | undefined> {
    const { metadata } = this.#options
    const partial = diffIds.filter((diffId) => metadata.layers.find(diffId)?.data === 'partial')
    for (const diffId of partial) {
      await this.partial.ensureSound(diffId, signal)
      this.getLazily(diffId)
    }
    if (partial.length === 0) return undefined
    const served = this.partial.serve(partial, signal)
    // Its caller may fail before it waits.
    served.catch(() => undefined)
    return { served }
  }

  /** Waits until layers that a caller holds lazy leases on are complete. @throws the errors of `LayerFiller.complete`, LAYER_NOT_FOUND */
  async complete(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<void> {
    await Promise.all([...new Set(diffIds)].map(async (diffId) => this.partial.complete(diffId, { signal })))
    for (const diffId of diffIds) this.get(diffId)
  }

  /**
   * Takes the layer of a blob of which nothing else is known, and returns its digest and a lease on it. The blob is read also if the layer is here; the data
   * of a partial one is waited for.
   * Nothing is left behind on failure. @throws the errors of the source and of `ingestLayer`
   */
  async add(
    layer: UnknownLayer,
    signal?: AbortSignal,
  ): Promise<{ readonly diffId: DiffId; readonly lease: FileLock }> {
    const options = { ...this.#options, smallBlobs: this.#smallBlobs, spans: this.#spans }
    return ingestUnknown(layer, signal, options, async (diffId, commitTo) => {
      const commit = async () => {
        await this.#releasePartial(diffId)
        await commitTo()
      }
      return { diffId, lease: await this.#leases.leaseMade(diffId, commit, signal) }
    })
  }

  /** Returns leases on layers that are here, whose data is completed: nothing else is fetched. @throws LAYER_NOT_FOUND and the errors of `LayerFiller.complete` */
  async leaseStored(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<DisposableStack> {
    using leases = await this.leaseTrees(diffIds, signal)
    await this.complete(diffIds, signal)
    return leases.move()
  }

  /** Returns leases on layers that are here, complete or partial, for a caller that needs their trees alone. @throws LAYER_NOT_FOUND */
  async leaseTrees(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<DisposableStack> {
    using leases = new DisposableStack()
    for (const diffId of new Set(diffIds)) {
      // After a reboot the tree of a partial layer is made again.
      if (!this.isHereLazily(diffId)) await this.isHere(diffId, signal)
      const lock = lockPath(this.#options.paths, 'layer', diffId)
      leases.use(await FileLock.acquire(lock, { shared: true, signal }))
      this.getLazily(diffId)
    }
    return leases.move()
  }

  /**
   * Returns whether a layer is here, complete or partial, and reads it for that where it is not known to have come to the disk, or was read by an earlier
   * generation.
   */
  async isHere(diffId: DiffId, signal?: AbortSignal): Promise<boolean> {
    const isReady = () => this.#isReady(diffId) || this.partial.find(diffId) !== undefined
    if (isReady()) return true
    using _lock = await FileLock.acquire(lockPath(this.#options.paths, 'layer', diffId), { signal })
    return (
      isReady() || (await this.#makeReady(diffId, signal)) || (await this.partial.makeReady(diffId, signal))
    )
  }

  #isReady(diffId: DiffId): boolean {
    const record = this.find(diffId)
    return record !== undefined && !this.isOutdated(record)
  }

  /** Uses the layer's files in the store, if possible. Returns false if it has to be fetched. The caller holds the layer's lock exclusively. */
  async #makeReady(diffId: DiffId, signal: AbortSignal | undefined): Promise<boolean> {
    if (this.find(diffId) === undefined && !(await this.#verifyAgain(diffId, signal))) return false
    const record = this.get(diffId)
    if (this.isOutdated(record)) await this.#renew(record, signal)
    return true
  }

  /** A layer that was being written when the power went may have come to the disk in time: that costs one reading of it. */
  async #verifyAgain(diffId: DiffId, signal: AbortSignal | undefined): Promise<boolean> {
    const { metadata, bootId } = this.#options
    const record = this.#findComplete(diffId)
    if (record === undefined || (await this.checkTar(diffId, record.tarBytes, signal)) !== undefined)
      return false
    await metadata.layers.putArtifact(newArtifactRecord(diffId, 'tar', bootId))
    return true
  }

  /** Rebuilds the metadata image and summary of a layer by the rules of this generation. */
  async #renew(record: CompleteLayer, signal: AbortSignal | undefined): Promise<void> {
    const { metadata } = this.#options
    const { diffId } = record
    const { artifact, summary } = await this.artifacts.renewMeta(diffId, signal)
    await metadata.layers.put({ ...record, summary }, [artifact])
  }

  /** Waits until layers are on the disk, tar and index, so that they are there after a power cut. The caller holds leases on them. */
  async sync(diffIds: readonly DiffId[]): Promise<void> {
    const { metadata, paths } = this.#options
    await this.partial.sync(diffIds)
    const owing = [...new Set(diffIds)].filter(
      (diffId) => metadata.layers.findArtifact(diffId, 'tar')?.isDurable === false,
    )
    if (owing.length === 0) return
    await Promise.all(
      owing.map(async (diffId) => {
        await syncFile(this.tarPath(diffId))
        const metaPath = this.artifacts.path(diffId, 'meta')
        if (sizeOf(metaPath) !== undefined) await syncFile(metaPath)
        await syncDirectory(layerPath(paths, diffId))
      }),
    )
    await syncDirectory(paths.layers)
    await metadata.layers.markDurable(owing, ['tar', 'meta'])
  }

  /** Fetches a layer that is here and damaged once more, in the place of the old one. @throws as `lease` */
  async refetch(layer: WantedLayer, options: LeaseLayerOptions = {}): Promise<void> {
    const { signal } = options
    using _lock = await FileLock.acquire(lockPath(this.#options.paths, 'layer', layer.diffId), { signal })
    await this.#fetch(layer, { ...options, syncEarly: true })
    await this.sync([layer.diffId])
  }

  /** Reads a layer's tar, and returns its problem if there is one, also that of a disk that cannot read it. */
  async checkTar(
    diffId: DiffId,
    tarBytes: number,
    signal?: AbortSignal,
    onBytes?: OnBytes,
  ): Promise<string | undefined> {
    const path = this.tarPath(diffId)
    const { algorithm } = splitDigest(diffId)
    try {
      const stats = statSync(path, { throwIfNoEntry: false })
      if (stats === undefined) return 'its tar is missing'
      if (!stats.isFile()) return `its tar is ${kindOf(stats)}`
      if (stats.size !== tarBytes) return `its tar has ${stats.size} bytes instead of ${tarBytes}`
      const actual = await hashFile(this.#options.workers, path, { signal, onBytes, algorithm })
      return actual === diffId ? undefined : `its tar has the digest ${actual}`
    } catch (error) {
      const fault = faultOfFile(error)
      if (fault === undefined) throw error
      return `its tar cannot be read (${fault})`
    }
  }

  /** Returns what is wrong with a partial layer, and how many bytes were hashed. */
  async checkPartial(source: LazySource, signal?: AbortSignal): ReturnType<typeof checkPartial> {
    return checkPartial({ ...this.#options, partial: this.partial }, source, signal)
  }

  async #fetch(layer: WantedLayer, options: LeaseLayerOptions): Promise<void> {
    const { signal, unpack = false, syncEarly = false } = options
    const totalBytes = layer.blob.sizeBytes
    const onReceived = (receivedBytes: number) => {
      options.onProgress?.({ state: 'fetching', receivedBytes, totalBytes })
    }
    const { diffId, blob } = layer
    await this.#releasePartial(diffId)
    const fetching = traced('layer', { digest: blob.digest, diffId, blobBytes: totalBytes }, async () =>
      fetchLayer(
        layer,
        { signal, unpack, syncEarly, onReceived },
        { ...this.#options, smallBlobs: this.#smallBlobs, spans: this.#spans },
      ),
    )
    layer.keepOpen?.(fetching)
    onReceived(0)
    await fetching
    // Otherwise a small layer would have no progress, and a large one none for its last byte.
    onReceived(totalBytes)
  }

  /** Prepares to replace a partial layer: its tree may be another one than its lazy index said. @throws LAYER_DAMAGED while it is in use */
  async #releasePartial(diffId: DiffId): Promise<void> {
    if (this.#options.metadata.layers.find(diffId)?.data !== 'partial') return
    await this.partial.release(diffId)
    await this.artifacts.forgetStacksOf(diffId)
  }

  /** Gets ready for layers that are going to be fetched. */
  warmUp(): void {
    this.#options.workers.warmUp()
  }

  /** Removes the layers and artifacts that no image and no root filesystem uses, and files without a row; see `pruneLayers`. */
  async prune(active: ReadonlySet<DiffId> = new Set()): Promise<PrunedLayer[]> {
    return pruneLayers({ ...this.#options, removals: this.#removals, partial: this.partial }, active)
  }

  /** Waits until removals have ended, and until deferred records of synced files are written. */
  async settle(): Promise<void> {
    await this.artifacts.settle()
    await this.#removals.settle()
  }
}

function throwNotFound(diffId: DiffId): never {
  throw new LoamError('LAYER_NOT_FOUND', `find layer ${diffId}: it is not in the store`, {
    hint: '`loam pull` of the image refetches it.',
  })
}
