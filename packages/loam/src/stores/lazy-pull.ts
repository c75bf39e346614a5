import { LoamError, throwIfAborted } from '../errors/index.ts'
import { type DiffId, type Digest, isForeignLayerType } from '../image/index.ts'
import type { LayerStore, TrustedIndex } from '../layers/index.ts'
import type { ImageLayerRecord, ImageRecord, LazySource, MetadataStore } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { chunkedIndex, type LayerAnnotations } from './chunked-indexes.ts'
import type { FoundLazyIndex, LazyIndexes, LazyIndexRequest, LazyIndexSubject } from './lazy-indexes.ts'
import type { GetOptions, PullEvent } from './store.ts'

const RETENTION_NEEDS_BLOBS = 'blob_retention is on, and keeps the blobs of layers as they are received'

/** Looks for trusted lazy indexes. Never fails for want of one. @throws CANCELED */
export type FindIndexes = (
  source: ImageSource,
  image: LazyIndexSubject,
  request: LazyIndexRequest,
) => Promise<LazyIndexes>

/** Returns whether the index of a partial layer is trusted for another request, as far as that is known without a search. */
export type TrustsStill = (known: LazySource, source: ImageSource, request: LazyIndexRequest) => boolean

/** How an image is pulled: the layers with an index lazily, all others eagerly. */
export interface LazyPlan {
  readonly indexes: ReadonlyMap<DiffId, TrustedIndex>
  /** Why no layer is pulled lazily that is not here. Undefined: some are, or all are here. */
  readonly why: string | undefined
  /** Returns whether the request trusts the index of a layer that is partial already. */
  readonly trusts: (known: LazySource) => boolean
}

export interface LazyPullOptions {
  readonly layers: LayerStore
  /** Why the request cannot leave data for later: no index is looked for. */
  readonly whyEager: string | undefined
  /** Whether the blobs of layers are kept as they are received, which needs all of them. */
  readonly retainsBlobs: boolean
  /** Undefined: none is trusted. */
  readonly find: FindIndexes | undefined
  readonly trustsStill: TrustsStill
  /** Reads the annotations of an image's layers, if the indexes in blobs themselves may be used. */
  readonly annotationsOf: ((image: ImageRecord) => LayerAnnotations) | undefined
}

/** A search for the lazy indexes of an image, which may begin before its layers are known. */
export class LazyPull implements Disposable {
  readonly #options: LazyPullOptions
  readonly #source: ImageSource
  readonly #layers = Promise.withResolvers<readonly ImageLayerRecord[]>()
  readonly #ended = new AbortController()
  #found: Promise<LazyIndexes> | undefined

  constructor(source: ImageSource, options: LazyPullOptions) {
    this.#source = source
    this.#options = options
    this.#layers.promise.catch(() => undefined)
  }

  get #whyEager(): string | undefined {
    const { whyEager, retainsBlobs } = this.#options
    return whyEager ?? (retainsBlobs ? RETENTION_NEEDS_BLOBS : undefined)
  }

  /** Begins the search for an image whose manifest is known. */
  begin(digest: Digest, request: LazyIndexRequest): void {
    this.#found = this.#find(digest, request)
    this.#found.catch(() => undefined)
  }

  async #find(digest: Digest, request: LazyIndexRequest): Promise<LazyIndexes> {
    const { find } = this.#options
    const whyEager = this.#whyEager
    if (whyEager !== undefined) return { kind: 'none', why: whyEager }
    if (find === undefined) return { kind: 'none', why: 'no lazy index is trusted' }
    const never = this.#options.layers.partial.whyNever()
    if (never !== undefined) return { kind: 'none', why: never }
    const { signal: ended } = this.#ended
    const signal = request.signal === undefined ? ended : AbortSignal.any([request.signal, ended])
    const image = { digest, layers: this.#layers.promise }
    const found = await find(this.#source, image, { ...request, signal })
    // Tried only where it would be used: most machines have no indexes.
    if (found.kind === 'none') return found
    const why = await this.#getReady()
    return why === undefined ? found : { kind: 'none', why }
  }

  /** Starts the process that fills layers while the indexes are fetched. Returns why this machine cannot pull lazily. */
  async #getReady(): Promise<string | undefined> {
    const { partial } = this.#options.layers
    const why = await partial.whyOff()
    if (why === undefined) partial.warmUp()
    return why
  }

  /** Returns how to pull the layers of the image, which are known now. @throws CANCELED */
  async plan(image: ImageRecord, request: LazyIndexRequest): Promise<LazyPlan> {
    const trustsKnown = (known: LazySource) => this.#options.trustsStill(known, this.#source, request)
    const missing = image.layers.filter(({ diffId }) => !this.#isHere(diffId, trustsKnown))
    this.#layers.resolve(missing)
    if (missing.length === 0) {
      this.#ended.abort()
      return { indexes: new Map(), why: undefined, trusts: trustsKnown }
    }
    const found = await (this.#found ?? this.#find(image.digest, request))
    throwIfAborted(request.signal, `pull ${this.#source.name}`)
    const inBlobs = await this.#findInBlobs(image, missing, request)
    const indexes = missing.flatMap((layer) => {
      // What fills a layer later knows only its registry, which may lack this one.
      if (isForeignLayerType(layer.blobMediaType)) return []
      const index = found.kind === 'none' ? undefined : found.indexes.get(layer.diffId)
      const trusted = index === undefined ? inBlobs.get(layer.diffId) : this.#toTrusted(index, layer, request)
      return trusted === undefined ? [] : ([[layer.diffId, trusted]] as const)
    })
    const why = found.kind === 'none' && indexes.length === 0 ? found.why : undefined
    const own = new Map(indexes)
    const trusts = (known: LazySource) => this.#isSame(own.get(known.diffId), known) || trustsKnown(known)
    return { indexes: own, why, trusts }
  }

  /** A partial layer is here only for a request that trusts its index: another one looks for its own. */
  #isHere(diffId: DiffId, trusts: LazyPlan['trusts']): boolean {
    const { layers } = this.#options
    if (!layers.isHereLazily(diffId)) return false
    const known = layers.partial.sourceOf(diffId)
    return known === undefined || trusts(known)
  }

  #isSame(own: TrustedIndex | undefined, { indexDigest, trustedBy, reference }: LazySource): boolean {
    if (own === undefined) return false
    if (own.indexDigest !== undefined) return own.indexDigest === indexDigest
    // The digest of an index in a blob is not known before it is made.
    return own.trustedBy === trustedBy && own.reference === reference
  }

  /** Finds the indexes that blobs have in themselves. A request that names an artifact uses no other index. */
  async #findInBlobs(
    image: ImageRecord,
    missing: readonly ImageLayerRecord[],
    { pin, signal }: LazyIndexRequest,
  ): Promise<ReadonlyMap<DiffId, TrustedIndex>> {
    const { annotationsOf, layers } = this.#options
    const annotations = pin === undefined && this.#whyEager === undefined ? annotationsOf?.(image) : undefined
    if (annotations === undefined) return new Map()
    const found = missing.flatMap((layer) => {
      const index = chunkedIndex(layers, this.#source, layer, { annotations, signal })
      return index === undefined ? [] : ([[layer.diffId, index]] as const)
    })
    const isUsed = found.length > 0 && (await this.#getReady()) === undefined
    return new Map(isUsed ? found : [])
  }

  #toTrusted(
    { indexDigest, trustedBy, bytes, profile }: FoundLazyIndex,
    layer: ImageLayerRecord,
    { signal }: LazyIndexRequest,
  ): TrustedIndex {
    return {
      indexDigest,
      trustedBy,
      bytes: async () => bytes(signal),
      profile: profile === undefined ? undefined : async () => profile(signal),
      reference: this.#source.name,
      blobMediaType: layer.blobMediaType,
    }
  }
  /** Ends a search whose image was not pulled, with its requests. */
  [Symbol.dispose](): void {
    this.#ended.abort()
    this.#layers.reject(
      new LoamError('CANCELED', `look for lazy indexes of ${this.#source.name}: its pull has ended`),
    )
  }
}

/** Why an image that was to be pulled lazily was not: by its plan, or by what happened to a layer. */
export class EagerReason {
  readonly #plan: LazyPlan | undefined
  readonly #onEvent: GetOptions['onEvent']
  #why: string | undefined

  constructor(plan: LazyPlan | undefined, onEvent: GetOptions['onEvent']) {
    this.#plan = plan
    this.#onEvent = onEvent
    this.#why = plan?.why
  }

  readonly onEvent = (event: PullEvent): void => {
    if (event.kind === 'eager') this.#why = event.why
    this.#onEvent?.(event)
  }

  /** Records the reason for `inspect`. A pull that found all layers here leaves what was recorded. */
  async record({ lazy }: Pick<MetadataStore, 'lazy'>, image: Digest): Promise<void> {
    const plan = this.#plan
    if (plan === undefined || (this.#why === undefined && plan.indexes.size === 0)) return
    await lazy.putWhyEager(image, this.#why)
  }
}
