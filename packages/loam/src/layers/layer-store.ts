import { existsSync } from 'node:fs'
import { traced } from '../activity/index.ts'
import {
  type IngestArea,
  layerPath,
  leaseOrMake,
  lockPath,
  Removals,
  SingleFlight,
  type RetainedBlobs,
  type StorePaths,
  TAR_NAME,
} from '../content/index.ts'
import { join } from 'node:path'
import { LoamError } from '../errors/index.ts'
import { type DiffId, splitDigest } from '../image/index.ts'
import { FileLock, syncDirectory, syncFile } from '../linux/index.ts'
import type { CompleteLayer, MetadataStore } from '../metadata/index.ts'
import { type LayerLimits, type LeftOutXattrs, TREE_GENERATION } from '../tree/index.ts'
import { newArtifactRecord } from './artifact-record.ts'
import { ArtifactStore } from './artifact-store.ts'
import { sizeOf } from './file-state.ts'
import { fetchLayer, ingestUnknown, type UnknownLayer, type WantedLayer } from './layer-fetch.ts'
import { type PrunedLayer, pruneLayers } from './prune.ts'
import { SmallBlobs } from './small-blobs.ts'
import { TreeWork } from './tree-work.ts'
import { hashFile, type LayerWorkers } from './worker-pool.ts'

/** How far one layer is. */
export type LayerProgress =
  | {
      /** It waits for others, or was in the store already. */
      readonly state: 'waiting' | 'exists'
    }
  | {
      /** It is in the store now. */
      readonly state: 'done'
      /** xattrs that its files do not get; undefined when they get all. */
      readonly leftOutXattrs: LeftOutXattrs | undefined
    }
  | {
      /** It is being downloaded. */
      readonly state: 'fetching'
      /** Bytes of the blob that have come. */
      readonly receivedBytes: number
      /** Size of the blob in bytes. */
      readonly totalBytes: number
    }

/** Who in this process waits for a layer. */
interface LayerWatchers {
  readonly all: Set<(progress: LayerProgress) => void>
  hasFetched: boolean
}

export interface LeaseLayerOptions {
  readonly signal?: AbortSignal | undefined
  /** Make the overlay folder in the same pass, while the tree is in memory. */
  readonly unpack?: boolean
  /** The caller is going to call `sync`. */
  readonly syncEarly?: boolean
  readonly onProgress?: (progress: LayerProgress) => void
}

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
  /** Work that threads do with layers, folders and files. */
  readonly trees: TreeWork
  readonly #flights = new SingleFlight()
  readonly #watchers = new Map<DiffId, LayerWatchers>()
  readonly #removals = new Removals()
  readonly #smallBlobs = new SmallBlobs()

  constructor(options: LayerStoreOptions) {
    this.#options = options
    this.artifacts = new ArtifactStore({ ...options, removals: this.#removals })
    this.trees = new TreeWork({ ...options, artifacts: this.artifacts })
  }

  /** Returns the record of a layer that is here with all of its data. */
  find(diffId: DiffId): CompleteLayer | undefined {
    const record = this.#findComplete(diffId)
    // A file system that lost the tar, or the end of it, leaves the record.
    const isThere = record !== undefined && sizeOf(this.tarPath(diffId)) === record.tarBytes
    return isThere && this.#isTrusted(diffId) ? record : undefined
  }

  /** A partial layer is fetched like one that is not here: no caller can wait for its data yet. */
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
    const record = this.find(diffId)
    if (record !== undefined) return record
    throw new LoamError('LAYER_NOT_FOUND', `find layer ${diffId}: it is not in the store`, {
      hint: '`loam pull` of the image refetches it.',
    })
  }

  tarPath(diffId: DiffId): string {
    return join(layerPath(this.#options.paths, diffId), TAR_NAME)
  }

  /**
   * Ensures that a layer is in the store and returns a lease on it. Many callers, in this process and in others, cause one
   * transfer. Nothing is left behind on failure. @throws the errors of the source and of `ingestLayer`
   */
  async lease(layer: WantedLayer, options: LeaseLayerOptions = {}): Promise<FileLock> {
    const { diffId } = layer
    const watchers = this.#watchers.get(diffId) ?? { all: new Set(), hasFetched: false }
    this.#watchers.set(diffId, watchers)
    const watcher = (progress: LayerProgress) => options.onProgress?.(progress)
    watchers.all.add(watcher)
    const tell = (progress: LayerProgress) => {
      for (const one of watchers.all) one(progress)
    }
    const make = async (signal: AbortSignal | undefined) => {
      if (await this.#makeReady(diffId, signal)) return
      watchers.hasFetched = true
      await this.#fetch(layer, { ...options, signal, onProgress: tell })
    }
    const onWait = () => {
      tell({ state: 'waiting' })
    }
    try {
      const lease = await leaseOrMake(
        lockPath(this.#options.paths, 'layer', diffId),
        () => this.#isReady(diffId),
        make,
        { signal: options.signal, flights: this.#flights, onWait },
      )
      if (watchers.hasFetched)
        watcher({ state: 'done', leftOutXattrs: this.get(diffId).summary.leftOutXattrs })
      else watcher({ state: 'exists' })
      return lease
    } finally {
      watchers.all.delete(watcher)
      if (watchers.all.size === 0 && this.#watchers.get(diffId) === watchers) this.#watchers.delete(diffId)
    }
  }

  /**
   * Takes the layer of a blob of which nothing else is known, and returns its digest and a lease on it. The blob is read also if the layer is here.
   * Nothing is left behind on failure. @throws the errors of the source and of `ingestLayer`
   */
  async add(
    layer: UnknownLayer,
    signal?: AbortSignal,
  ): Promise<{ readonly diffId: DiffId; readonly lease: FileLock }> {
    const options = { ...this.#options, smallBlobs: this.#smallBlobs }
    return ingestUnknown(layer, signal, options, async (diffId, commitTo) => {
      const make = async (given: AbortSignal | undefined) => {
        if (!(await this.#makeReady(diffId, given))) await commitTo()
      }
      const lockFile = lockPath(this.#options.paths, 'layer', diffId)
      const lease = await leaseOrMake(lockFile, () => this.#isReady(diffId), make, { signal })
      return { diffId, lease }
    })
  }

  /** Returns leases on layers that are here: nothing is fetched. @throws LAYER_NOT_FOUND */
  async leaseStored(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<DisposableStack> {
    using leases = new DisposableStack()
    for (const diffId of new Set(diffIds)) {
      const lock = lockPath(this.#options.paths, 'layer', diffId)
      leases.use(await FileLock.acquire(lock, { shared: true, signal }))
      this.get(diffId)
    }
    return leases.move()
  }

  /** Returns whether a layer is here, and reads it for that where it is not known to have come to the disk, or was read by an earlier generation. */
  async isHere(diffId: DiffId, signal?: AbortSignal): Promise<boolean> {
    if (this.#isReady(diffId)) return true
    using _lock = await FileLock.acquire(lockPath(this.#options.paths, 'layer', diffId), { signal })
    return this.#isReady(diffId) || (await this.#makeReady(diffId, signal))
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
    const owing = [...new Set(diffIds)].filter(
      (diffId) => metadata.layers.findArtifact(diffId, 'tar')?.isDurable === false,
    )
    if (owing.length === 0) return
    await Promise.all(
      owing.map(async (diffId) => {
        await syncFile(this.tarPath(diffId))
        const metaPath = this.artifacts.path(diffId, 'meta')
        if (existsSync(metaPath)) await syncFile(metaPath)
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

  /** Reads a layer's tar, and returns its problem if there is one. */
  async checkTar(diffId: DiffId, tarBytes: number, signal?: AbortSignal): Promise<string | undefined> {
    const path = this.tarPath(diffId)
    const size = sizeOf(path)
    if (size === undefined) return 'its tar is missing'
    if (size !== tarBytes) return `its tar has ${size} bytes instead of ${tarBytes}`
    const actual = await hashFile(this.#options.workers, path, {
      signal,
      algorithm: splitDigest(diffId).algorithm,
    })
    return actual === diffId ? undefined : `its tar has the digest ${actual}`
  }

  async #fetch(layer: WantedLayer, options: LeaseLayerOptions): Promise<void> {
    const { signal, unpack = false, syncEarly = false } = options
    const totalBytes = layer.blob.sizeBytes
    const onReceived = (receivedBytes: number) => {
      options.onProgress?.({ state: 'fetching', receivedBytes, totalBytes })
    }
    const { diffId, blob } = layer
    const fetching = traced('layer', { digest: blob.digest, diffId, blobBytes: totalBytes }, async () =>
      fetchLayer(
        layer,
        { signal, unpack, syncEarly, onReceived },
        { ...this.#options, smallBlobs: this.#smallBlobs },
      ),
    )
    layer.keepOpen?.(fetching)
    onReceived(0)
    await fetching
    // Otherwise a small layer would have no progress, and a large one none for its last byte.
    onReceived(totalBytes)
  }

  /** Gets ready for layers that are going to be fetched. */
  warmUp(): void {
    this.#options.workers.warmUp()
  }

  /** Removes the layers and artifacts that no image and no root filesystem uses, and files without a row; see `pruneLayers`. */
  async prune(active: ReadonlySet<DiffId> = new Set()): Promise<PrunedLayer[]> {
    return pruneLayers({ ...this.#options, removals: this.#removals }, active)
  }

  /** Waits until removals have ended, and until deferred records of synced files are written. */
  async settle(): Promise<void> {
    await this.artifacts.settle()
    await this.#removals.settle()
  }
}
