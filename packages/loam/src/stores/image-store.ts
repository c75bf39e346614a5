import { traced } from '../activity/index.ts'
import {
  type BlobStore,
  type IngestArea,
  leaseOrMake,
  lockPath,
  type RetainedBlobs,
  type StorePaths,
  SingleFlight,
  sweepPartials,
  type Sweep,
  sweepUnfinished,
} from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import {
  checkLayerCount,
  type Digest,
  formatPlatform,
  type ImageConfig,
  isFor,
  limitOf,
  parseImageConfig,
  type Platform,
  type DiffId,
  parseManifestDocument,
  runsOn,
  type StoredReference,
} from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { FileLock, TimeLimit } from '../linux/index.ts'
import { type ImageRecord, type MetadataStore } from '../metadata/index.ts'
import type { ImageLocation, PolicyDecision } from '../policy/index.ts'
import { appcIdOf, type ImageSource } from '../sources/index.ts'
import { type ImageLimits, overLimit } from '../tree/index.ts'
import { findNamed, findStored, type ImageNaming } from './find-image.ts'
import { annotationsOf } from './chunked-indexes.ts'
import { checkImage, createRecord, toWanted, withAddresses } from './image-record.ts'
import { checkName, describeLeft, namesFor } from './image-names.ts'
import { waitForFlight } from './name-flight.ts'
import { EagerReason, type FindIndexes, LazyPull, type LazyPlan, type TrustsStill } from './lazy-pull.ts'
import { leaseLayer, leaseLayers } from './lease-layers.ts'
import type { PolicyEnforcer } from './policy-enforcer.ts'
import { pruneStore, sweepRetainedBlobs } from './prune.ts'
import { getDocument, type ResolvedImage, resolveImage } from './resolve.ts'
import { type GetOptions, type PruneOptions, type PruneResult, type Store, StoredImage } from './store.ts'

export interface ImageStoreOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly retained: RetainedBlobs
  readonly ingest: () => IngestArea
  readonly hostPlatform: Platform
  readonly naming: ImageNaming
  readonly limits: ImageLimits
  /** Undefined: no policy, every image may be used. */
  readonly enforcer: PolicyEnforcer | undefined
  /** Looks for trusted lazy indexes. Undefined: images are pulled eagerly. */
  readonly findIndexes?: FindIndexes | undefined
  /** Undefined: the index of a partial layer is trusted only if the request has found it itself. */
  readonly trustsStill?: TrustsStill | undefined
  /** Called with each image that was not in the store, when it is. It must not throw. */
  readonly onPulled?: ((image: ImageRecord, source: ImageSource, options: GetOptions) => void) | undefined
}

/** How long the received part of a layer is kept for the next pull. */
const PARTIAL_MAX_AGE_MS = 24 * 3_600_000

/** Precision of the time at which an image was last used. */
const USED_STEP_MS = 60_000

/** An image as its documents describe it, before its layers are known to be in the store. */
interface DescribedImage {
  readonly record: ImageRecord
  readonly targetDigest: Digest
  readonly manifest: Buffer
  readonly config: ImageConfig
  readonly configBytes: Buffer
  /** Locations that it came from, in addition to the requested one. */
  readonly from: readonly ImageLocation[]
  /** The manifest as in its source. */
  readonly pinNote: string | undefined
}

/**
 * A store of images of one type: a read-through cache, keyed by the digest of the manifest, with names as aliases. Missing parts are fetched,
 * also those that were lost later; an image gets its row when all of its parts are in the store.
 * Locks: first the documents' lock, shared, for as long as an image is being stored; then the name's, where finding its digest
 * costs a transfer; then the config's and each layer's. The builders of these hold them exclusively, and wait for no other lock meanwhile.
 */
export class ImageStore implements Store<ImageSource> {
  readonly #options: ImageStoreOptions
  readonly #flights = new SingleFlight()

  constructor(options: ImageStoreOptions) {
    this.#options = options
  }

  /** Removes unfinished files without an owner. */
  async recover(): Promise<Sweep> {
    const { paths } = this.#options
    await sweepPartials(paths, PARTIAL_MAX_AGE_MS)
    await sweepRetainedBlobs({ ...this.#options, documentsLock: this.#documentsLock })
    return sweepUnfinished(paths)
  }

  /**
   * Returns an image with leases on all its layers. @throws the errors of the source, the documents, the policy and the layers; then nothing is
   * recorded
   */
  async get(source: ImageSource, options: GetOptions): Promise<StoredImage> {
    const { pullMs } = this.#options.limits
    using limit = new TimeLimit(pullMs, options.signal)
    try {
      return await this.#get(source, { ...options, signal: limit.signal })
    } catch (error) {
      if (!limit.isOver || options.signal?.aborted === true) throw error
      throw overLimit(`pull ${source.name}: it takes too long`, 'pullMs', pullMs)
    }
  }

  async #get(source: ImageSource, options: GetOptions): Promise<StoredImage> {
    using _documents = await FileLock.acquire(this.#documentsLock, {
      shared: true,
      signal: options.signal,
    })
    const { limits, enforcer } = this.#options
    enforcer?.checkAsked(source.name, source.asked)
    const find = () => this.#findCached(source, options.platform)
    const isCached = options.cached || source.stored !== undefined
    let cached = isCached ? find() : undefined
    // A caller that had to wait for another fetch of the same name uses its result.
    using flight =
      cached === undefined && source.isConverted
        ? await waitForFlight(this.#options.paths, source.name, options.signal)
        : undefined
    if (flight !== undefined && (flight.hadToWait || isCached)) cached = find()
    using lazy = this.#lazyPull(source, options)
    const image =
      cached ?? (await traced('image.resolve', {}, async () => this.#describe(source, options, lazy)))
    const decisions = await this.#admit(image, source, options.signal)
    this.#reportOtherPlatform(image, source, options)
    const plan = await this.#plan(image.record, lazy, options)
    const eager = new EagerReason(plan, options.onEvent)
    const { onEvent } = eager
    const leases = await leaseLayers(this.#options.layers, image.record, source, {
      ...options,
      plan,
      onEvent,
    })
    try {
      const store = this.#options.layers
      const layers = image.record.layers.map(({ diffId }) =>
        lazy === undefined ? store.get(diffId) : store.getLazily(diffId),
      )
      const bytes = layers.reduce((sum, { tarBytes }) => sum + tarBytes, 0)
      if (bytes > limits.bytes && cached === undefined)
        throw overLimit(`pull ${source.name}: its layers have ${bytes} bytes`, 'bytes', limits.bytes)
      // The name keeps its old image until all of the new one is on the disk, if that was requested.
      if (options.sync === true) await traced('image.sync', {}, async () => this.#sync(image))
      await this.#record(image, source, cached !== undefined, options)
      await enforcer?.record(image.record.digest, decisions)
      await eager.record(this.#options.metadata, image.record.digest)
      if (cached === undefined) this.#options.onPulled?.(image.record, source, options)
      return new StoredImage({ ...image, layers }, leases)
    } catch (error) {
      for (const lease of leases) lease.release()
      throw error
    }
  }

  #lazyPull(source: ImageSource, { lazy, whyEager }: GetOptions): LazyPull | undefined {
    const { layers, findIndexes: find, trustsStill = () => false, blobs, retained } = this.#options
    if (lazy === undefined) return undefined
    const read = (image: ImageRecord) => annotationsOf(blobs.get(image.digest, 'manifest'), image)
    // One file in two spans: not worth it for all who did not ask.
    return new LazyPull(source, {
      ...{ layers, find, trustsStill, whyEager, retainsBlobs: retained.isOn },
      annotationsOf: lazy === 'asked' ? read : undefined,
    })
  }

  /** Undefined: all layers have to be complete. */
  async #plan(
    image: ImageRecord,
    lazy: LazyPull | undefined,
    options: GetOptions,
  ): Promise<LazyPlan | undefined> {
    const plan = await lazy?.plan(image, { pin: options.lazyIndex, signal: options.signal })
    if (plan?.why !== undefined && options.lazy === 'asked')
      options.onEvent?.({ kind: 'eager', why: plan.why })
    return plan
  }

  /** @throws POLICY_REFUSED and the errors of looking for signatures */
  async #admit(
    { record, targetDigest, manifest, from }: DescribedImage,
    source: ImageSource,
    signal: AbortSignal | undefined,
  ): Promise<PolicyDecision[]> {
    const { enforcer } = this.#options
    if (enforcer === undefined) return []
    const ids = [targetDigest, ...this.#otherIds(record, manifest)]
    return enforcer.admit({ source, from, digest: record.digest, ids }, signal)
  }

  /** Returns the id of an Appc image, which it may also be named by. */
  #otherIds({ digest, mediaType }: ImageRecord, manifest: Buffer): string[] {
    if (this.#options.naming.type !== 'appc') return []
    const document = parseManifestDocument(manifest, mediaType, `manifest ${digest}`)
    const id = document.kind === 'manifest' ? appcIdOf(document.annotations) : undefined
    return id === undefined ? [] : [id]
  }

  /** Reports an image for another platform: it is sound, but its programs may not run. */
  #reportOtherPlatform({ config, record }: DescribedImage, { name }: ImageSource, options: GetOptions): void {
    const { hostPlatform } = this.#options
    if (options.platform !== undefined || runsOn(config.platform, hostPlatform)) return
    options.onEvent?.({
      kind: 'other-platform',
      name,
      platform: record.platform,
      hostPlatform: formatPlatform({ os: hostPlatform.os, architecture: hostPlatform.architecture }),
    })
  }

  /** Resolves an image and fetches only its documents. @throws the errors of the source and the policy */
  async describe(source: ImageSource, options: GetOptions): Promise<ImageRecord> {
    using _documents = await FileLock.acquire(this.#documentsLock, { shared: true, signal: options.signal })
    this.#options.enforcer?.checkAsked(source.name, source.asked)
    const isCached = options.cached || source.stored !== undefined
    const cached = isCached ? this.#findCached(source, options.platform) : undefined
    const image = cached ?? (await this.#describe(source, options, undefined))
    await this.#admit(image, source, options.signal)
    return image.record
  }

  /** Gives an image of the store the name of its source; no layer is needed. @throws POLICY_REFUSED, NAME_TAKEN, DIGEST_MISMATCH, IMAGE_NOT_FOUND */
  async tag(source: ImageSource, signal: AbortSignal | undefined): Promise<ImageRecord> {
    // Its documents stay until its name needs them.
    using _documents = await FileLock.acquire(this.#documentsLock, { shared: true, signal })
    const { enforcer, metadata } = this.#options
    enforcer?.checkAsked(source.name, source.asked)
    const found = this.#findCached(source, undefined)
    if (found === undefined)
      throw new LoamError('IMAGE_NOT_FOUND', `tag ${source.name}: the image or its documents are missing`)
    const image = { ...found, from: source.from?.() ?? [] }
    const decisions = await this.#admit(image, source, signal)
    const ids = this.#otherIds(image.record, image.manifest)
    await metadata.images.giveNames(image.record.digest, namesFor(source, image, ids).names, ids)
    await enforcer?.record(image.record.digest, decisions)
    return image.record
  }

  /** Finds out which layers of an image can be pulled lazily. @throws CANCELED */
  async planLazily(
    source: ImageSource,
    image: ImageRecord,
    { signal, whyEager }: { readonly signal: AbortSignal; readonly whyEager: string | undefined },
  ): Promise<LazyPlan> {
    const options = { cached: true, lazy: 'auto', whyEager, signal } as const
    using lazy = this.#lazyPull(source, options)
    const plan = await this.#plan(image, lazy, options)
    return plan ?? { indexes: new Map(), why: undefined, trusts: () => false }
  }

  /** Fetches one layer of an image, or by a plan only its tree, and returns a lease on it. @throws the errors of the source and the layer */
  async leaseLayer(
    source: ImageSource,
    layer: ImageRecord['layers'][number],
    { plan, signal }: { readonly plan: LazyPlan | undefined; readonly signal: AbortSignal },
  ): Promise<FileLock> {
    return leaseLayer(this.#options.layers, toWanted(layer, source), plan, { signal, syncEarly: true })
  }

  async #sync({ record, targetDigest }: DescribedImage): Promise<void> {
    const { layers, blobs } = this.#options
    await layers.sync(record.layers.map(({ diffId }) => diffId))
    await blobs.sync([targetDigest, record.digest, record.configDigest])
  }

  /** Fetches a damaged layer of an image once more from its source. @throws the errors of the source and the layer */
  async refetchLayer(
    source: ImageSource,
    image: ImageRecord,
    diffId: DiffId,
    signal?: AbortSignal,
  ): Promise<void> {
    const { blobs, metadata } = this.#options
    const manifest = blobs.find(image.digest, 'manifest')
    const { layers } = manifest === undefined ? image : withAddresses(image, manifest, metadata)
    const layer = layers.find((candidate) => candidate.diffId === diffId)
    if (layer === undefined)
      throw new LoamError('LAYER_NOT_FOUND', `fetch layer ${diffId}: ${source.name} does not have it`)
    await this.#options.layers.refetch(toWanted(layer, source), { signal })
  }

  /** Fetches an image's manifest or config once more from its source. @throws the errors of the source, DIGEST_MISMATCH */
  async refetchDocument(
    source: ImageSource,
    image: ImageRecord,
    digest: Digest,
    signal?: AbortSignal,
  ): Promise<void> {
    const { blobs, ingest } = this.#options
    if (digest === image.digest) {
      const descriptor = { mediaType: image.mediaType, digest, sizeBytes: -1 }
      const limit = limitOf('manifest', this.#options.limits)
      blobs.put(digest, await source.getDocument(descriptor, limit, signal), ingest())
      return
    }
    const manifest = blobs.get(image.digest, 'manifest')
    const document = parseManifestDocument(manifest, image.mediaType, `manifest ${image.digest}`)
    if (document.kind !== 'manifest')
      throw new LoamError('DOCUMENT_INVALID', `read ${image.digest}: it is an index`)
    const { limits } = this.#options
    blobs.put(
      digest,
      await getDocument(source, document.config, { kind: 'config', limits, signal }),
      ingest(),
    )
  }

  get #documentsLock(): string {
    return lockPath(this.#options.paths, 'documents', 'all')
  }

  /** Finds the image that a name referred to when its source was last asked. */
  findByName(name: StoredReference, platform: Platform | undefined): ImageRecord | undefined {
    return findNamed(name, platform, this.#options)?.record
  }

  /** The same, with the digest that its source answered with: of the index if there is one. */
  findTarget(
    name: StoredReference,
    platform: Platform | undefined,
  ): { record: ImageRecord; targetDigest: Digest } | undefined {
    return findNamed(name, platform, this.#options)
  }

  #findCached(source: ImageSource, platform: Platform | undefined): DescribedImage | undefined {
    const found =
      findStored(source, this.#options.metadata) ?? findNamed(source.name, platform, this.#options)
    if (found === undefined) return undefined
    const { blobs, enforcer, metadata } = this.#options
    const { record, targetDigest, from } = found
    // The policy cannot evaluate an image of unknown location: its source is asked again.
    if (from.some((location) => enforcer?.isLost(location) === true)) return undefined
    const manifest = blobs.find(record.digest, 'manifest')
    const configBytes = blobs.find(record.configDigest, 'config')
    // Lost or damaged documents make this a miss, and the source is asked again.
    if (manifest === undefined || configBytes === undefined) return undefined
    const config = parseImageConfig(configBytes, `config ${record.configDigest}`)
    if (platform !== undefined && !isFor(config, platform)) return undefined
    const known = withAddresses(record, manifest, metadata)
    return { record: known, targetDigest, manifest, config, configBytes, from, pinNote: undefined }
  }

  async #describe(
    source: ImageSource,
    options: GetOptions,
    lazy: LazyPull | undefined,
  ): Promise<DescribedImage> {
    const { blobs, hostPlatform, limits, naming } = this.#options
    options.onEvent?.({ kind: 'resolving', name: source.name })
    // A thread starts while the source is asked.
    this.#options.layers.warmUp()
    const ingest = this.#options.ingest()
    const resolved = await resolveImage({
      ...options,
      source,
      blobs,
      ingest,
      hostPlatform,
      platform: options.platform,
      limits,
    })
    options.onEvent?.({ kind: 'resolved', name: source.name, digest: resolved.targetDigest })
    checkName(source, resolved, naming.type)
    // It takes a round trip, as the config does. Of an image that is known, all layers are likely to be here.
    if (this.#options.metadata.images.find(resolved.digest) === undefined)
      lazy?.begin(resolved.digest, { pin: options.lazyIndex, signal: options.signal })
    const configBytes = await this.#getConfig(source, resolved, options.signal)
    const what = `config ${resolved.manifest.config.digest} of ${source.name}`
    const config = parseImageConfig(configBytes, what)
    checkLayerCount(resolved.manifest, config, what)
    checkImage(source, { config, platform: options.platform, limits }, resolved)
    return {
      record: {
        ...createRecord(resolved, config, hostPlatform),
        type: naming.type,
        isLocal: !source.isRemote,
      },
      targetDigest: resolved.targetDigest,
      manifest: resolved.manifestBytes,
      config,
      configBytes,
      from: source.from?.() ?? [],
      pinNote: resolved.pinNote,
    }
  }

  /** The config is a blob like a layer: one of several concurrent callers fetches it. */
  async #getConfig(
    source: ImageSource,
    { manifest }: ResolvedImage,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const { blobs, paths, limits } = this.#options
    const descriptor = manifest.config
    const find = () => blobs.find(descriptor.digest, 'config')
    using _lease = await leaseOrMake(
      lockPath(paths, 'config', descriptor.digest),
      () => find() !== undefined,
      async (given) => {
        const getting = getDocument(source, descriptor, { kind: 'config', limits, signal: given })
        source.keepOpen?.(getting)
        const bytes = await getting
        blobs.put(descriptor.digest, bytes, this.#options.ingest())
      },
      { signal, flights: this.#flights },
    )
    const bytes = find()
    if (bytes === undefined)
      throw new LoamError('INTERNAL', `read config ${descriptor.digest}: it was removed meanwhile`)
    return bytes
  }

  async #record(
    image: DescribedImage,
    source: ImageSource,
    isCached: boolean,
    options: GetOptions,
  ): Promise<void> {
    const now = Date.now()
    const { targetDigest } = image
    // The image is already recorded: its time of use is updated now and then, unless another process has removed it meanwhile.
    if (isCached && (await this.#options.metadata.images.touch(image.record.digest, now, USED_STEP_MS))) {
      // Another caller may have recorded it just now, or may have failed to sync it.
      if (options.sync === true) await this.#options.metadata.settle()
      return
    }
    const ids = this.#otherIds(image.record, image.manifest)
    const { names, notes } = namesFor(source, image, [targetDigest, image.record.digest, ...ids])
    const record = { ...image.record, pulledAtMs: now, usedAtMs: now }
    // One more root filesystem of an image that a file holds waits for no disk. A pull does: the row may have come a moment ago.
    const { images } = this.#options.metadata
    if (options.sync !== true && images.isRecorded(record, names, { ids, stepMs: USED_STEP_MS })) return
    const left = await this.#options.metadata.images.put(record, names, ids)
    for (const text of [...notes, ...left.map(describeLeft)]) options.onEvent?.({ kind: 'note', text })
    const origin = source.origin?.()
    if (origin === undefined) return
    const blobs = image.record.layers.map(({ blobDigest }) => blobDigest)
    await this.#options.metadata.origins.put([targetDigest, image.record.digest, ...blobs], origin)
  }

  /** Removes the images that no container uses and that may be removed, then the layers and documents that are not needed any more. */
  async prune(options: PruneOptions): Promise<PruneResult> {
    return pruneStore({ ...this.#options, documentsLock: this.#documentsLock }, options)
  }
}
