import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  discard,
  type IngestArea,
  layerPath,
  leaseOrMake,
  lockPath,
  stackPath,
  SingleFlight,
  type StorePaths,
} from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { type ChainId, type DiffId, type Digest, type DigestAlgorithm, splitDigest } from '../image/index.ts'
import {
  FileLock,
  type OutputTarget,
  removeTree,
  syncDirectory,
  syncFile,
  syncFileSystem,
} from '../linux/index.ts'
import type { ArtifactRecord, LayerRecord, MetadataStore } from '../metadata/index.ts'
import { type LayerLimits, type LeftOutXattrs, TREE_GENERATION } from '../tree/index.ts'
import { moveInto, removeIfEmpty, sizeOf } from './file-state.ts'
import { ArtifactBuilder, type WantedArtifact } from './artifact-builder.ts'
import { newArtifactRecord } from './artifact-record.ts'
import { artifactPath, setAside } from './artifact-path.ts'
import { type GatheredTree, gatheredFiles, type GatherFolder, type TreeSource } from './tree-source.ts'
import { deviceTag, readDeviceTags } from './image-file.ts'
import { fetchLayer, type WantedLayer } from './layer-fetch.ts'
import type { PackedAs, PackReport } from './folder-reader.ts'
import type { TreeSurvey } from './tree-survey.ts'
import { type PrunedLayer, pruneLayers } from './prune.ts'
import { type ExportedAs, type ArtifactKind, TAR_NAME } from './tasks.ts'
import type { LayerWorkers } from './worker-pool.ts'
import type { LayerFiles } from './write-tree.ts'

/** After so long the kernel has written what a process wrote (vm.dirty_expire_centisecs is 30 s), and waiting for it is cheap. */
const WRITEBACK_MS = 60_000

/** How far one layer is. */
export type LayerProgress =
  | { readonly state: 'waiting' | 'exists' }
  /** It is here now; of its xattrs some are not, if so. */
  | { readonly state: 'done'; readonly leftOutXattrs: LeftOutXattrs | undefined }
  | { readonly state: 'fetching'; readonly receivedBytes: number; readonly totalBytes: number }

/** Who in this process waits for a layer. */
interface LayerWatchers {
  readonly all: Set<(progress: LayerProgress) => void>
  hasFetched: boolean
}

export interface LeaseLayerOptions {
  readonly signal?: AbortSignal | undefined
  /** Make the overlay folder in the same pass, while the tree is in memory. */
  readonly unpack?: boolean
  /** The caller is going to call `makeDurable`. */
  readonly syncEarly?: boolean
  readonly onProgress?: (progress: LayerProgress) => void
}

export interface LayerStoreOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly workers: LayerWorkers
  readonly ingest: () => IngestArea
  readonly limits: LayerLimits
  readonly bootId: string
}

/**
 * The layers of a store: each kept as its verified tar, with the artifacts that backends have asked for beside it.
 * Making a layer or an artifact waits for no disk. What is not known to be on the disk counts only in the boot that made it: after that a
 * layer is hashed before it is used, and an artifact, which is a cache, is made again.
 * Locks: one file for each layer and each artifact. A lease is the shared lock; making and removing take it exclusively.
 */
export class LayerStore {
  readonly #options: LayerStoreOptions
  readonly #builder: ArtifactBuilder
  readonly #flights = new SingleFlight()
  readonly #watchers = new Map<DiffId, LayerWatchers>()
  readonly #removals = new Set<Promise<void>>()

  constructor(options: LayerStoreOptions) {
    this.#options = options
    this.#builder = new ArtifactBuilder(options)
  }

  /** Returns the record of a layer that is here with its tar in full length. */
  find(diffId: DiffId): LayerRecord | undefined {
    const record = this.#options.metadata.layers.find(diffId)
    if (record === undefined) return undefined
    return this.#isWhole(record) && this.#isTrusted(diffId) ? record : undefined
  }

  #isWhole({ diffId, tarBytes }: LayerRecord): boolean {
    return sizeOf(this.tarPath(diffId)) === tarBytes
  }

  /** What was not known to be on the disk before a reboot may be anything. Layers without a record of it were synced first. */
  #isTrusted(diffId: DiffId): boolean {
    const record = this.#options.metadata.layers.findArtifact(diffId, 'tar')
    return record === undefined || this.#counts(record)
  }

  /** Tells whether what was found out about a layer was found out by an earlier generation of Loam, and may be wrong. */
  isOutdated({ summary }: LayerRecord): boolean {
    return summary.generation !== TREE_GENERATION
  }

  /** Tells whether an artifact was made by an earlier generation. */
  isArtifactOutdated({ kind, generation }: ArtifactRecord): boolean {
    return kind !== 'tar' && generation !== TREE_GENERATION
  }

  /** Tells whether what is here of an artifact was made by an earlier generation. */
  hasOutdatedArtifact(owner: Digest, kind: ArtifactKind): boolean {
    const record = this.#options.metadata.layers.findArtifact(owner, kind)
    return record !== undefined && this.isArtifactOutdated(record)
  }

  /** Returns the record of a layer that a caller holds a lease on. @throws LAYER_NOT_FOUND */
  get(diffId: DiffId): LayerRecord {
    const record = this.find(diffId)
    if (record !== undefined) return record
    throw new LoamError('LAYER_NOT_FOUND', `find layer ${diffId}: it is not in the store`, {
      hint: '`loam pull` of the image fetches it again.',
    })
  }

  tarPath(diffId: DiffId): string {
    return join(layerPath(this.#options.paths, diffId), TAR_NAME)
  }

  /**
   * Makes sure that a layer is here and returns a lease on it. Many callers, in this process and in others, cause one
   * transfer. Nothing is left behind on failure. @throws what the source and `ingestLayer` throw
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

  /** Tells whether a layer is here, and reads it for that where it is not known to have come to the disk, or was read by an earlier generation. */
  async isHere(diffId: DiffId, signal?: AbortSignal): Promise<boolean> {
    if (this.#isReady(diffId)) return true
    using _lock = await FileLock.acquire(lockPath(this.#options.paths, 'layer', diffId), { signal })
    return this.#isReady(diffId) || (await this.#makeReady(diffId, signal))
  }

  #isReady(diffId: DiffId): boolean {
    const record = this.find(diffId)
    return record !== undefined && !this.isOutdated(record)
  }

  /** Uses what is here of a layer. Returns false when it has to be fetched. The caller holds the layer's lock exclusively. */
  async #makeReady(diffId: DiffId, signal: AbortSignal | undefined): Promise<boolean> {
    if (this.find(diffId) === undefined && !(await this.#verifyAgain(diffId, signal))) return false
    const record = this.get(diffId)
    if (this.isOutdated(record)) await this.#renew(record, signal)
    return true
  }

  /** A layer that was being written when the power went may have come to the disk in time: that costs one reading of it. */
  async #verifyAgain(diffId: DiffId, signal: AbortSignal | undefined): Promise<boolean> {
    const { metadata, bootId } = this.#options
    const record = metadata.layers.find(diffId)
    if (record === undefined || (await this.checkTar(diffId, record.tarBytes, signal)) !== undefined)
      return false
    metadata.layers.putArtifact(newArtifactRecord(diffId, 'tar', bootId))
    return true
  }

  /** Makes the index and summary of a layer by the rules of this generation. */
  async #renew(record: LayerRecord, signal: AbortSignal | undefined): Promise<void> {
    const { metadata } = this.#options
    const { diffId } = record
    const made = await this.#builder.buildMeta(diffId, signal)
    try {
      const artifact = this.#replaceArtifact(diffId, 'meta', made.path)
      metadata.layers.put({ ...record, summary: made.summary }, [artifact])
    } finally {
      removeTree(made.path)
    }
  }

  /** Waits until layers are on the disk, tar and index, so that they are there after a power cut. The caller holds leases on them. */
  async makeDurable(diffIds: readonly DiffId[]): Promise<void> {
    const { metadata, paths } = this.#options
    const owing = [...new Set(diffIds)].filter(
      (diffId) => metadata.layers.findArtifact(diffId, 'tar')?.isDurable === false,
    )
    if (owing.length === 0) return
    await Promise.all(
      owing.map(async (diffId) => {
        await syncFile(this.tarPath(diffId))
        const metaPath = this.artifactPath(diffId, 'meta')
        if (existsSync(metaPath)) await syncFile(metaPath)
        syncDirectory(layerPath(paths, diffId))
      }),
    )
    syncDirectory(paths.layers)
    metadata.layers.markDurable(owing, ['tar', 'meta'])
  }

  /** Fetches a layer that is here and damaged once more, in the place of the old one. @throws as `lease` */
  async refetch(layer: WantedLayer, options: LeaseLayerOptions = {}): Promise<void> {
    const { signal } = options
    using _lock = await FileLock.acquire(lockPath(this.#options.paths, 'layer', layer.diffId), { signal })
    await this.#fetch(layer, { ...options, syncEarly: true })
    await this.makeDurable([layer.diffId])
  }

  /** Reads a layer's tar and says what is wrong with it, if anything is. */
  async checkTar(diffId: DiffId, tarBytes: number, signal?: AbortSignal): Promise<string | undefined> {
    const path = this.tarPath(diffId)
    const size = sizeOf(path)
    if (size === undefined) return 'its tar is missing'
    if (size !== tarBytes) return `its tar has ${size} bytes instead of ${tarBytes}`
    const actual = await this.hashFile(path, signal, splitDigest(diffId).algorithm)
    return actual === diffId ? undefined : `its tar has the digest ${actual}`
  }

  /** Tells whether an artifact that is a file is just what would be made now. */
  async isArtifactCorrect(wanted: WantedArtifact, signal?: AbortSignal): Promise<boolean> {
    const path = this.artifactPath(wanted.owner, wanted.kind)
    if (
      this.#options.metadata.layers.findArtifact(wanted.owner, wanted.kind) === undefined ||
      !existsSync(path)
    )
      return false
    const made =
      wanted.kind === 'meta'
        ? (await this.#builder.buildMeta(wanted.owner as DiffId, signal)).path
        : await this.#make(wanted, signal)
    try {
      const [is, ought] = await Promise.all([this.hashFile(path, signal), this.hashFile(made, signal)])
      return is === ought
    } finally {
      removeTree(made)
    }
  }

  /** Takes the record of an artifact away that is not on the disk any more. */
  forgetArtifact(owner: Digest, kind: ArtifactKind): void {
    this.#options.metadata.layers.removeArtifact(owner, kind)
    removeIfEmpty(stackPath(this.#options.paths, owner))
  }

  /** Makes an artifact once more, in the place of the one that is there. */
  async rebuildArtifact(wanted: WantedArtifact, signal?: AbortSignal): Promise<void> {
    const { paths, metadata } = this.#options
    const { owner, kind } = wanted
    using _lock = await FileLock.acquire(lockPath(paths, kind, owner), { signal })
    if (kind !== 'meta') {
      await this.#buildArtifact(wanted, signal)
      return
    }
    const made = await this.#builder.buildMeta(owner as DiffId, signal)
    try {
      metadata.layers.putArtifact(this.#replaceArtifact(owner, kind, made.path))
    } finally {
      removeTree(made.path)
    }
  }

  async #fetch(layer: WantedLayer, options: LeaseLayerOptions): Promise<void> {
    const { signal, unpack = false, syncEarly = false } = options
    const totalBytes = layer.blob.sizeBytes
    const onReceived = (receivedBytes: number) => {
      options.onProgress?.({ state: 'fetching', receivedBytes, totalBytes })
    }
    const fetching = fetchLayer(layer, { signal, unpack, syncEarly, onReceived }, this.#options)
    layer.keepOpen?.(fetching)
    await fetching
  }

  /** Gets ready for layers that are going to be fetched. */
  warmUp(): void {
    this.#options.workers.warmUp()
  }

  artifactPath(owner: Digest, kind: ArtifactKind): string {
    return artifactPath(this.#options.paths, owner, kind)
  }

  /**
   * Makes sure that the `fs` of layers is here and returns their folders. The caller holds leases on the layers and has
   * written the row of a root filesystem, which keeps the artifacts from then on.
   */
  async unpackLayers(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<string[]> {
    return Promise.all(
      diffIds.map(async (diffId) =>
        this.#ensureArtifact({ owner: diffId, kind: 'unpacked', layers: [diffId] }, signal),
      ),
    )
  }

  /**
   * Makes sure that the merged image of a stack of layers is here, base first, and returns its file and the files that hold its
   * data, in the order of its devices; as `unpackLayers`. The cost is linear in files and independent of their sizes.
   */
  async mergedImage(
    chainId: ChainId,
    layers: readonly DiffId[],
    signal?: AbortSignal,
  ): Promise<{ readonly image: string; readonly devices: readonly string[] }> {
    const image = await this.createStack({ chainId, kind: 'merged', layers }, signal)
    const tarOfTag = new Map(layers.map((diffId) => [deviceTag(diffId), this.tarPath(diffId)]))
    const devices = readDeviceTags(image).map((tag) => {
      const tarPath = tarOfTag.get(tag)
      if (tarPath !== undefined) return tarPath
      throw new LoamError(
        'EROFS_INVALID',
        `mount ${image}: it needs layer ${tag}, which the image does not have`,
      )
    })
    return { image, devices }
  }

  /** Makes sure that an artifact of a stack of layers is here, base first, and returns its path; as `unpackLayers`. */
  async createStack(
    stack: {
      readonly chainId: ChainId
      readonly kind: 'merged' | 'fixup' | 'flat'
      readonly layers: readonly DiffId[]
    },
    signal?: AbortSignal,
  ): Promise<string> {
    return this.#ensureArtifact({ ...stack, owner: stack.chainId }, signal)
  }

  async #ensureArtifact(wanted: WantedArtifact, signal: AbortSignal | undefined): Promise<string> {
    const { owner, kind } = wanted
    using _lease = await leaseOrMake(
      lockPath(this.#options.paths, kind, owner),
      () => this.#hasArtifact(owner, kind),
      async (given) => {
        await this.#buildArtifact(wanted, given)
      },
      { signal, flights: this.#flights },
    )
    return this.artifactPath(owner, kind)
  }

  #hasArtifact(owner: Digest, kind: ArtifactKind): boolean {
    const record = this.#options.metadata.layers.findArtifact(owner, kind)
    if (record === undefined || this.isArtifactOutdated(record)) return false
    return existsSync(this.artifactPath(owner, kind)) && this.#counts(record)
  }

  /** Whether what a record names is known to be what was written. */
  #counts(record: ArtifactRecord): boolean {
    const { metadata, bootId, paths } = this.#options
    if (record.isDurable) return true
    if (record.bootId !== bootId) return false
    const writtenBefore = Date.now() - WRITEBACK_MS
    if (record.createdAtMs < writtenBefore) {
      syncFileSystem(paths.root)
      metadata.layers.markArtifactsDurable(bootId, writtenBefore)
    }
    return true
  }

  #filesOf(diffId: DiffId, clonePath: string | undefined): LayerFiles {
    const metaPath = this.#hasArtifact(diffId, 'meta') ? this.artifactPath(diffId, 'meta') : undefined
    return { diffId, tarPath: this.tarPath(diffId), metaPath, clonePath }
  }

  async #buildArtifact(wanted: WantedArtifact, signal: AbortSignal | undefined): Promise<void> {
    const made = await this.#make(wanted, signal)
    try {
      this.#options.metadata.layers.putArtifact(this.#replaceArtifact(wanted.owner, wanted.kind, made))
    } finally {
      removeTree(made)
    }
  }

  async #make({ kind, layers }: WantedArtifact, signal: AbortSignal | undefined): Promise<string> {
    const files = layers.map((diffId) => this.#filesOf(diffId, undefined))
    return this.#builder.make(kind, files, signal)
  }

  /** Moves what was made to its place, and returns the row that is due. The row of what was there speaks for nothing else. */
  #replaceArtifact(owner: Digest, kind: ArtifactKind, made: string): ArtifactRecord {
    const { paths, metadata, bootId } = this.#options
    const final = this.artifactPath(owner, kind)
    const record = metadata.layers.findArtifact(owner, kind)
    if (record !== undefined) metadata.layers.removeArtifact(owner, kind)
    const isLaidOn =
      record !== undefined && this.isArtifactOutdated(record) && metadata.layers.isFolderUsed(owner)
    if (isLaidOn && existsSync(final)) setAside(final)
    else discard(paths, final)
    moveInto(made, final)
    return newArtifactRecord(owner, kind, bootId)
  }

  /**
   * Makes a root filesystem of its own in `target`: the merged tree of the layers, base first. With `fromUnpacked` the files
   * share their data with the layers' folders where the file system can do that. The caller holds the leases.
   */
  async copyTo(
    target: string,
    layers: readonly DiffId[],
    options: { readonly fromUnpacked: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<void> {
    const files = layers.map((diffId) =>
      this.#filesOf(diffId, options.fromUnpacked ? this.artifactPath(diffId, 'unpacked') : undefined),
    )
    const { limits } = this.#options
    await this.#options.workers.run(
      { kind: 'build', artifact: 'flat', layers: files, target, limits },
      options,
    )
  }

  /**
   * Writes a tree to a new file or a descriptor, as a disk image or as one tar, or into an empty folder that is there. The tree is the merged one of layers,
   * base first, of which the caller holds the leases; or that of a folder.
   */
  async exportTo(
    target: OutputTarget,
    format: ExportedAs,
    source: TreeSource,
    signal?: AbortSignal,
  ): Promise<void> {
    const { limits, workers } = this.#options
    const layers = this.#filesOfSource(source)
    await workers.run({ kind: 'export', format, layers, target, limits }, { signal })
  }

  /** Tells what a tree takes of a file system. */
  async survey(source: TreeSource, signal?: AbortSignal): Promise<TreeSurvey> {
    const { limits, workers } = this.#options
    return workers.run({ kind: 'survey', layers: this.#filesOfSource(source), limits }, { signal })
  }

  #filesOfSource(source: TreeSource): LayerFiles[] {
    if ('layers' in source) return source.layers.map((diffId) => this.#filesOf(diffId, undefined))
    return [{ ...gatheredFiles(source), metaPath: source.metaPath, clonePath: undefined }]
  }

  /** Reads a folder into two new files, which `exportTo` and `survey` take. Says what is not in them. */
  async gatherFolder(folder: string, made: GatheredTree, options: GatherFolder): Promise<PackReport> {
    const { as, signal } = options
    const { metaPath } = made
    const files = gatheredFiles(made)
    return this.#options.workers.run({ kind: 'gather', folder, as, files, metaPath }, { signal })
  }

  /** Writes a folder to a new file or a descriptor as one tar. Says what is not in it. */
  async packFolder(
    folder: string,
    target: OutputTarget,
    { as, signal }: { readonly as: PackedAs; readonly signal?: AbortSignal | undefined },
  ): Promise<PackReport> {
    return this.#options.workers.run({ kind: 'pack', folder, target, as }, { signal })
  }

  /** Writes the tar of a layer to a new file or a descriptor, and verifies it on the way. @throws LAYER_DAMAGED */
  async copyTar(diffId: DiffId, target: OutputTarget, signal?: AbortSignal): Promise<void> {
    await this.#options.workers.run(
      { kind: 'copy', path: this.tarPath(diffId), digest: diffId, target },
      { signal },
    )
  }

  /** Writes a file to a descriptor. */
  async copyFile(path: string, target: OutputTarget, signal?: AbortSignal): Promise<void> {
    await this.#options.workers.run({ kind: 'copy', path, digest: undefined, target }, { signal })
  }

  /** Reads a file in a thread of its own and returns its digest. */
  async hashFile(path: string, signal?: AbortSignal, algorithm: DigestAlgorithm = 'sha256'): Promise<Digest> {
    return this.#options.workers.run({ kind: 'hash', path, algorithm }, { signal })
  }

  /** Removes what no image and no root filesystem uses, and files without a row; see `pruneLayers`. */
  prune(active: ReadonlySet<DiffId> = new Set()): PrunedLayer[] {
    return pruneLayers({ ...this.#options, pending: this.#removals }, active)
  }

  /** Waits until what a prune removes is gone from the disk. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#removals)
  }
}
