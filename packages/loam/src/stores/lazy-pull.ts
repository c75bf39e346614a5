import { LoamError, throwIfAborted } from '../errors/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import type { LayerStore, TrustedIndex } from '../layers/index.ts'
import type { ImageLayerRecord } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'

/** An image that lazy indexes are wanted for. Its layers may be known later than its manifest. */
interface LazySubject {
  readonly digest: Digest
  readonly layers: readonly ImageLayerRecord[] | Promise<readonly ImageLayerRecord[]>
}

type FoundIndex = Pick<TrustedIndex, 'indexDigest' | 'trustedBy'> & {
  readonly bytes: (signal?: AbortSignal) => Promise<Buffer>
}

/** The trusted lazy indexes of some layers, or why there are none. */
type FoundIndexes =
  | {
      readonly kind: 'found'
      readonly indexes: ReadonlyMap<DiffId, FoundIndex>
    }
  | { readonly kind: 'none'; readonly why: string }

/** Looks for trusted lazy indexes. Never fails for want of one. @throws CANCELED */
export type FindIndexes = (
  source: ImageSource,
  image: LazySubject,
  request: { readonly pin?: Digest | undefined; readonly signal?: AbortSignal | undefined },
) => Promise<FoundIndexes>

/** How an image is pulled: the layers with an index lazily, all others eagerly. */
export interface LazyPlan {
  readonly indexes: ReadonlyMap<DiffId, TrustedIndex>
  /** Why no layer is pulled lazily that is not here. Undefined: some are, or all are here. */
  readonly why: string | undefined
}

export interface LazyPullOptions {
  readonly layers: LayerStore
  /** Undefined: none is trusted. */
  readonly find: FindIndexes | undefined
}

/** A search for the lazy indexes of an image, which may begin before its layers are known. */
export class LazyPull implements Disposable {
  readonly #options: LazyPullOptions
  readonly #source: ImageSource
  readonly #layers = Promise.withResolvers<readonly ImageLayerRecord[]>()
  #found: Promise<FoundIndexes> | undefined

  constructor(source: ImageSource, options: LazyPullOptions) {
    this.#source = source
    this.#options = options
    this.#layers.promise.catch(() => undefined)
  }

  /** Begins the search for an image whose manifest is known. */
  begin(digest: Digest, request: Parameters<FindIndexes>[2]): void {
    const { find, layers } = this.#options
    if (find === undefined || !layers.partial.isOn) return
    this.#found = find(this.#source, { digest, layers: this.#layers.promise }, request)
    this.#found.catch(() => undefined)
  }

  /** Returns how to pull the layers of the image, which are known now. @throws CANCELED */
  async plan(
    image: { readonly digest: Digest; readonly layers: readonly ImageLayerRecord[] },
    request: Parameters<FindIndexes>[2],
  ): Promise<LazyPlan> {
    const missing = image.layers.filter(({ diffId }) => !this.#options.layers.isHereLazily(diffId))
    this.#layers.resolve(missing)
    if (missing.length === 0) return { indexes: new Map(), why: undefined }
    if (this.#found === undefined) this.begin(image.digest, request)
    const found = await (this.#found ?? { kind: 'none' as const, why: this.#whyOff })
    throwIfAborted(request.signal, `pull ${this.#source.name}`)
    if (found.kind === 'none') return { indexes: new Map(), why: found.why }
    const indexes = missing.flatMap((layer) => {
      const index = found.indexes.get(layer.diffId)
      return index === undefined ? [] : ([[layer.diffId, this.#toTrusted(index, layer, request)]] as const)
    })
    return { indexes: new Map(indexes), why: undefined }
  }

  get #whyOff(): string {
    return this.#options.layers.partial.isOn ? 'no lazy index is trusted' : 'this machine cannot pull lazily'
  }

  #toTrusted(
    { indexDigest, trustedBy, bytes }: FoundIndex,
    layer: ImageLayerRecord,
    { signal }: Parameters<FindIndexes>[2],
  ): TrustedIndex {
    return {
      indexDigest,
      trustedBy,
      bytes: async () => bytes(signal),
      reference: this.#source.name,
      blobMediaType: layer.blobMediaType,
    }
  }
  /** Ends a search whose image was not pulled. */
  [Symbol.dispose](): void {
    this.#layers.reject(
      new LoamError('CANCELED', `look for lazy indexes of ${this.#source.name}: its pull has ended`),
    )
  }
}
