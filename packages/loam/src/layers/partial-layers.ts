import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { traced } from '../activity/index.ts'
import {
  clearName,
  discard,
  layerPath,
  LAZY_INDEX_NAME,
  lockPath,
  META_NAME,
  moveOver,
  SPAN_MAP_NAME,
  TAR_NAME,
} from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { type DiffId, type Digest, digestOf } from '../image/index.ts'
import { FileLock, removeTree, syncDirectory, syncFile } from '../linux/index.ts'
import type { LazySource, MetadataStore, PartialLayer } from '../metadata/index.ts'
import type { DescribedLayer } from '../transform/index.ts'
import { TREE_GENERATION } from '../tree/index.ts'
import { newArtifactRecord } from './artifact-record.ts'
import { createSparse, sizeOf } from './file-state.ts'
import { ensureIndex, type IndexFileParts, KnownIndexes } from './index-file.ts'
import type { WantedLayer } from './wanted-layer.ts'
import type { CompleteOptions, LayerFiller } from './layer-filler.ts'
import { createSpanMap } from './span-map.ts'
import type { TreeWork } from './tree-work.ts'

/** Unit of `st_blocks`, whatever the file system has (stat(2)). */
const STAT_BLOCK_BYTES = 512

const NO_FILLER = 'this store has no process that fills partial layers'

/** The lazy index of a layer, and who vouches for it. */
export interface TrustedIndex {
  /** Fetches it, or makes it. The bytes have the digest `indexDigest`. */
  readonly bytes: () => Promise<Buffer>
  /** Gets the spans that containers read first, as far as is known. Never fails. */
  readonly profile?: (() => Promise<readonly number[]>) | undefined
  /** Undefined: it is known when the index was made. */
  readonly indexDigest: Digest | undefined
  /** The rule of `lazy_trust` that allowed it. */
  readonly trustedBy: string
  /** Name of the source of its image. */
  readonly reference: string
  /** Media type of the layer's blob. */
  readonly blobMediaType: string
}

/** Fills partial layers, where that is possible. */
export interface LazyParts {
  readonly filler: LayerFiller
  /** As `whyNot`, by one system call. */
  readonly whyNever: () => string | undefined
  /** Returns why this machine cannot fill layers while they are read; undefined if it can. Tries it, and keeps the answer unless it may be another one soon. */
  readonly whyNot: () => Promise<string | undefined>
}

export interface PartialLayersOptions extends IndexFileParts {
  readonly metadata: MetadataStore
  readonly bootId: string
  /** Undefined: no layer is pulled lazily, and those that are partial are fetched. */
  readonly lazy: LazyParts | undefined
  /** Writes the metadata image of a layer from its lazy index. @throws LAZY_INDEX_INVALID */
  readonly describe: TreeWork['describeIndex']
}

/**
 * The layers of which only the tree is here, and a sparse tar that is filled as it is read. Files of a layer's directory: `layer.tar` at its full
 * size, `layer.erofs`, the lazy index that both were made from, and the map of the spans that are here. Callers hold the layer's lock.
 */
export class PartialLayers {
  readonly #options: PartialLayersOptions
  readonly #indexes = new KnownIndexes()

  constructor(options: PartialLayersOptions) {
    this.#options = options
  }

  /** Returns why no layer can be pulled lazily on this machine; undefined if layers can. */
  async whyOff(): Promise<string | undefined> {
    const { lazy } = this.#options
    return lazy === undefined ? NO_FILLER : lazy.whyNot()
  }

  /** Returns why no layer is pulled lazily on this machine, as far as that is known without a mount; undefined if layers may be. */
  whyNever(): string | undefined {
    const { lazy } = this.#options
    return lazy === undefined ? NO_FILLER : lazy.whyNever()
  }

  /** Gets ready for layers that are likely to be made soon. */
  warmUp(): void {
    this.#options.lazy?.filler.prepare()
  }

  /** Ends what `warmUp` keeps running. */
  close(): void {
    this.#options.lazy?.filler.release()
  }

  /**
   * Returns the record of a partial layer whose files can be mounted when its reads are served. In each boot they have to be made ready first: what a power cut
   * left of them is unknown.
   */
  find(diffId: DiffId): PartialLayer | undefined {
    const found = this.#find(diffId)
    if (found === undefined || found.record.summary.generation !== TREE_GENERATION) return undefined
    const isSound =
      this.#isOfThisBoot(diffId) &&
      sizeOf(this.#path(diffId, META_NAME)) !== undefined &&
      this.#hasKnownIndex(found.source) &&
      sizeOf(this.#path(diffId, TAR_NAME)) === found.record.tarBytes
    return isSound ? found.record : undefined
  }

  /** Returns where a layer comes from that is partial, whether or not its files are sound, and who vouches for its index. */
  sourceOf(diffId: DiffId): LazySource | undefined {
    return this.#find(diffId)?.source
  }

  /** Returns whether a layer of the store is partial. */
  isAny(): boolean {
    return this.#options.metadata.layers.partials().length > 0
  }

  #isOfThisBoot(diffId: DiffId): boolean {
    const { metadata, bootId } = this.#options
    return metadata.layers.findArtifact(diffId, 'meta')?.bootId === bootId
  }

  /** Returns whether the index beside a layer is the one that its row names, as it was when the metadata image was made. */
  #hasKnownIndex({ diffId, indexDigest }: LazySource): boolean {
    const meta = this.#options.metadata.layers.findArtifact(diffId, 'meta')
    const path = this.#path(diffId, LAZY_INDEX_NAME)
    return meta !== undefined && this.#indexes.isStill(path, indexDigest, meta.createdAtMs)
  }

  #find(diffId: DiffId): { record: PartialLayer; source: LazySource } | undefined {
    const { lazy, metadata } = this.#options
    if (lazy === undefined) return undefined
    const record = metadata.layers.find(diffId)
    const source = metadata.layers.partialSource(diffId)
    if (record?.data !== 'partial' || source === undefined) return undefined
    return metadata.layers.denialOf(source.indexDigest) === undefined ? { record, source } : undefined
  }

  /**
   * Makes the files of a partial layer sound again: after a reboot, or for the rules of this generation. `index` is one that the caller trusts: if it is that of
   * the layer, it takes the place of one that was lost or damaged. Returns false if the layer has to be fetched. The caller holds the layer's lock exclusively.
   */
  async makeReady(diffId: DiffId, signal: AbortSignal | undefined, index?: TrustedIndex): Promise<boolean> {
    if (this.find(diffId) !== undefined) return true
    const found = this.#find(diffId)
    if (found === undefined) return false
    const { metadata, ingest, bootId } = this.#options
    const { record, source } = found
    const indexPath = this.#path(diffId, LAZY_INDEX_NAME)
    if (!(await ensureIndex(this.#options, { source, path: indexPath, index }, signal))) return false
    // In this boot it may be mounted, and a new file would not be what is shown and served.
    if (this.#isOfThisBoot(diffId) && sizeOf(this.#path(diffId, TAR_NAME)) !== record.tarBytes) return false
    const directory = ingest().newPath('layer')
    try {
      mkdirSync(directory, { mode: 0o700 })
      const made = join(directory, META_NAME)
      const described = await this.#describe(source, indexPath, made, signal)
      if (described.tarBytes !== record.tarBytes) return false
      this.#restoreTar(record, described.spans, directory)
      moveOver(this.#options.paths, made, this.#path(diffId, META_NAME))
      const { summary } = described
      await metadata.layers.putPartial(
        { ...record, summary },
        source,
        newArtifactRecord(diffId, 'meta', bootId),
      )
      return true
    } finally {
      await removeTree(directory)
    }
  }

  /** In a new boot the files of a partial layer are made ready, unless a process that has a lease on the layer has done that. */
  async ensureSound(diffId: DiffId, signal: AbortSignal | undefined): Promise<void> {
    if (this.#find(diffId) === undefined || this.find(diffId) !== undefined) return
    using lock = FileLock.tryAcquire(lockPath(this.#options.paths, 'layer', diffId))
    if (lock !== undefined) await this.makeReady(diffId, signal)
  }

  /** A power cut may have lost the end of the tar, and then the map claims too much. */
  #restoreTar({ diffId, tarBytes }: PartialLayer, spans: number, directory: string): void {
    const tarPath = this.#path(diffId, TAR_NAME)
    const mapPath = this.#path(diffId, SPAN_MAP_NAME)
    if (sizeOf(tarPath) === tarBytes && sizeOf(mapPath) !== undefined) return
    createSparse(join(directory, TAR_NAME), tarBytes)
    createSpanMap(join(directory, SPAN_MAP_NAME), spans, this.#options.bootId)
    const { paths } = this.#options
    clearName(paths, mapPath)
    moveOver(paths, join(directory, TAR_NAME), tarPath)
    moveOver(paths, join(directory, SPAN_MAP_NAME), mapPath)
  }

  /** Returns whether a layer may be created from a lazy index. The files of a layer that was here before are never replaced: they may be mounted. */
  mayCreate(diffId: DiffId): boolean {
    return this.#options.lazy !== undefined && this.#options.metadata.layers.find(diffId) === undefined
  }

  /**
   * Creates a partial layer from its lazy index, and waits until its reads are served. The caller holds the layer's lock exclusively, and `mayCreate`
   * was true. Nothing is left on failure. @throws LAZY_INDEX_INVALID and the errors of `LayerFiller.serve`
   */
  async create(wanted: WantedLayer, index: TrustedIndex, signal: AbortSignal | undefined): Promise<void> {
    const { metadata, ingest, paths, bootId } = this.#options
    const { diffId } = wanted
    const { trustedBy, reference } = index
    const blob = { ...wanted.blob, mediaType: index.blobMediaType }
    const directory = ingest().newPath('layer')
    const profile = index.profile?.()
    try {
      mkdirSync(directory, { mode: 0o700 })
      const indexPath = join(directory, LAZY_INDEX_NAME)
      const bytes = await traced('layer.index', { diffId }, index.bytes)
      const indexDigest = index.indexDigest ?? this.#admitMade(bytes)
      const source = { diffId, blob, reference, indexDigest, trustedBy }
      writeFileSync(indexPath, bytes, { flag: 'wx', mode: 0o600 })
      const { tarBytes, spans, summary } = await this.#describe(
        source,
        indexPath,
        join(directory, META_NAME),
        signal,
      )
      createSparse(join(directory, TAR_NAME), tarBytes)
      createSpanMap(join(directory, SPAN_MAP_NAME), spans, bootId)
      // What a kill has left has no row.
      await discard(paths, layerPath(paths, diffId))
      moveOver(paths, directory, layerPath(paths, diffId))
      const layer = { data: 'partial', diffId, tarBytes, summary, createdAtMs: Date.now() } as const
      await metadata.layers.putPartial(layer, source, newArtifactRecord(diffId, 'meta', bootId))
      // It is read when the layer is served.
      const hint = await profile
      if (hint !== undefined) await metadata.lazy.addProfile(diffId, { indexDigest, spans: hint })
    } finally {
      await removeTree(directory)
    }
    await this.#serveNew(diffId, signal)
  }

  /** Returns the digest of an index that was made. @throws LAZY_INDEX_INVALID if the same one was denied before */
  #admitMade(bytes: Buffer): Digest {
    const digest = digestOf(bytes)
    const denial = this.#options.metadata.layers.denialOf(digest)
    if (denial === undefined) return digest
    throw new LoamError('LAZY_INDEX_INVALID', `use the lazy index ${digest}: it was denied: ${denial}`)
  }

  /**
   * Serves the partial layers that root filesystems and snapshots show, unless that is done: the processes that did may have been killed. Returns the
   * mount points that were unmounted because they may have shown wrong data. @throws the errors of `LayerFiller.resume`
   */
  async resume(signal?: AbortSignal): Promise<readonly string[]> {
    const { lazy, metadata, paths } = this.#options
    // Also one whose files are damaged: the handler looks for the mounts of all of them, and a hole must not be read as zeros.
    const isShown = (diffId: DiffId) => metadata.layers.isShown(diffId) && this.#isOfThisBoot(diffId)
    const shown = metadata.layers.partials().flatMap(({ diffId }) => (isShown(diffId) ? [diffId] : []))
    if (lazy === undefined || shown.length === 0) return []
    using leases = new DisposableStack()
    for (const diffId of shown)
      leases.use(await FileLock.acquire(lockPath(paths, 'layer', diffId), { shared: true, signal }))
    const sound = shown.filter((diffId) => isShown(diffId) && this.find(diffId) !== undefined)
    return await lazy.filler.resume(sound, signal)
  }

  /**
   * Uses a lazy index again that was denied, and serves the layers that are shown with it. Returns whether it was denied. Repeat it after a failure: the layers are
   * served also if the denial is gone already. @throws the errors of `LayerFiller.resume`
   */
  async allowIndex(indexDigest: Digest, signal?: AbortSignal): Promise<boolean> {
    const wasDenied = await this.#options.metadata.lazy.allowIndex(indexDigest)
    await this.resume(signal)
    return wasDenied
  }

  async #serveNew(diffId: DiffId, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.serve([diffId], signal)
    } catch (error) {
      // It may be served all the same: then it stays a partial layer.
      if (await this.forget(diffId)) {
        await this.#options.metadata.layers.remove(diffId)
        await discard(this.#options.paths, layerPath(this.#options.paths, diffId))
      }
      throw error
    }
  }

  /** Checks that the index describes the layer that the image names, and writes the layer's metadata image. */
  async #describe(
    { diffId, blob, indexDigest }: LazySource,
    indexPath: string,
    metaPath: string,
    signal: AbortSignal | undefined,
  ): Promise<DescribedLayer> {
    const described = await traced('layer.skeleton', { diffId }, async () =>
      this.#options.describe({ indexPath, indexDigest, metaPath }, signal),
    )
    const isOfLayer =
      described.diffId === diffId &&
      described.blob.digest === blob.digest &&
      described.blob.sizeBytes === blob.sizeBytes
    if (isOfLayer) return described
    throw new LoamError('LAZY_INDEX_INVALID', `read the lazy index of ${diffId}: it is that of another layer`)
  }

  /** Ensures that reads of partial layers wait for their data. @throws the errors of `LayerFiller.serve` */
  async serve(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<void> {
    await this.#options.lazy?.filler.serve(diffIds, signal)
  }

  /** Waits until the data of a partial layer is here. Layers that are not partial are left alone. @throws the errors of `LayerFiller.complete` */
  async complete(diffId: DiffId, options: CompleteOptions): Promise<void> {
    if (this.#find(diffId) === undefined) return
    await this.ensureSound(diffId, options.signal)
    if (this.#find(diffId) !== undefined && this.find(diffId) === undefined)
      throw new LoamError('LAYER_DAMAGED', `complete layer ${diffId}: its lazy index or its tar is damaged`)
    using _lease = await FileLock.acquire(lockPath(this.#options.paths, 'layer', diffId), {
      shared: true,
      signal: options.signal,
    })
    if (this.#find(diffId) === undefined) return
    await traced('layer.complete', { diffId }, async () =>
      this.#options.lazy?.filler.complete(diffId, options),
    )
  }

  /** Waits until the trees of partial layers are on the disk. Their data is fetched again if a power cut loses it. The caller holds leases on them. */
  async sync(diffIds: readonly DiffId[]): Promise<void> {
    const { layers } = this.#options.metadata
    const owing = [...new Set(diffIds)].filter(
      (diffId) =>
        this.#find(diffId) !== undefined && layers.findArtifact(diffId, 'meta')?.isDurable === false,
    )
    if (owing.length === 0) return
    const { paths } = this.#options
    await Promise.all(
      owing.map(async (diffId) => {
        for (const name of [META_NAME, LAZY_INDEX_NAME]) await syncFile(this.#path(diffId, name))
        await syncDirectory(layerPath(paths, diffId))
      }),
    )
    await syncDirectory(paths.layers)
    await layers.markDurable(owing, ['meta'])
  }

  /**
   * Stops serving a layer that is going to be removed or replaced, and that nothing mounts. Returns false if the filler cannot be reached: it may then take the
   * next tar of the layer for this one, so the layer has to stay. The caller holds the layer's lock exclusively.
   */
  async forget(diffId: DiffId): Promise<boolean> {
    if (this.#options.metadata.layers.find(diffId)?.data !== 'partial') return true
    try {
      await this.#options.lazy?.filler.forget([diffId])
      return true
    } catch {
      return false
    }
  }

  /**
   * Gives a partial layer up that is going to be fetched in its place. @throws LAYER_DAMAGED while containers or snapshots may show it: their reads would get the
   * holes of a tar that nothing fills any more
   */
  async release(diffId: DiffId): Promise<void> {
    const { metadata } = this.#options
    if (metadata.layers.find(diffId)?.data !== 'partial') return
    const isShown = this.#isOfThisBoot(diffId) && metadata.layers.isShown(diffId)
    if (isShown || !(await this.forget(diffId)))
      throw new LoamError(
        'LAYER_DAMAGED',
        `fetch layer ${diffId}: it is partial and in use, and its data does not come`,
        {
          hint: 'Destroy the containers that show it, and pull the image again. `loam fsck` says what is wrong.',
        },
      )
  }

  /** Returns the bytes of a layer's tar that are on the disk: it is sparse while the layer is partial. */
  diskBytes(diffId: DiffId): number {
    const stats = statSync(this.#path(diffId, TAR_NAME), { throwIfNoEntry: false })
    return stats === undefined ? 0 : stats.blocks * STAT_BLOCK_BYTES
  }

  #path(diffId: DiffId, name: string): string {
    return join(layerPath(this.#options.paths, diffId), name)
  }
}
