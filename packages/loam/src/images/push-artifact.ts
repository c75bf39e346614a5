import { Readable } from 'node:stream'
import { isLoamError, throwIfAborted } from '../errors/index.ts'
import {
  type Digest,
  digestOf,
  formatLazyProfile,
  type LazyArtifact,
  type LazyProfile,
  MAX_PROFILE_BYTES,
  MEDIA_TYPES,
  parseLazyArtifact,
  parseLazyProfile,
  uniteSpans,
} from '../image/index.ts'
import type { LayerIndex } from '../layers/index.ts'
import { streamStored } from '../linux/index.ts'
import type { ImageLayerRecord, MetadataStore } from '../metadata/index.ts'
import type { ArtifactBlob, LazyArtifacts } from '../sources/index.ts'

/** A layer of an image, and its index. */
export interface Indexed {
  readonly layer: ImageLayerRecord
  readonly index: LayerIndex
}

/** Pushes the artifact of one image: the indexes of its layers, and the spans that containers of this store and of earlier publishers read first. */
export class ArtifactPush {
  readonly #metadata: MetadataStore
  readonly #to: LazyArtifacts
  readonly #signal: AbortSignal | undefined

  constructor(
    { metadata }: { readonly metadata: MetadataStore },
    to: LazyArtifacts,
    signal: AbortSignal | undefined,
  ) {
    this.#metadata = metadata
    this.#to = to
    this.#signal = signal
  }

  /** Returns the digest of the artifact. @throws REGISTRY_* */
  async run(subject: LazyArtifact['subject'], indexes: readonly Indexed[]): Promise<Digest> {
    const layers = indexes.map(({ layer: { blobDigest: blob, diffId }, index }) => ({ blob, diffId, index }))
    const blobs = indexes.map(({ index: { digest, sizeBytes, path } }) => ({
      digest,
      sizeBytes,
      open: () => streamStored(path),
    }))
    const profile = this.#unite(await this.#published(subject.digest), indexes)
    if (profile.size === 0) return this.#push({ subject, layers, profile: undefined }, blobs)
    const bytes = formatLazyProfile(profile)
    const blob = { digest: digestOf(bytes), sizeBytes: bytes.length }
    const open = () => Readable.from([bytes])
    return this.#push({ subject, layers, profile: blob }, [...blobs, { ...blob, open }])
  }

  async #push(artifact: LazyArtifact, blobs: readonly ArtifactBlob[]): Promise<Digest> {
    return this.#to.push(artifact, blobs, this.#signal)
  }

  /** Reads the profile that was published before; it is a hint, and one that cannot be read is replaced. */
  async #published(image: Digest): Promise<LazyProfile> {
    const signal = this.#signal
    try {
      for await (const { digest, bytes } of this.#to.find(image, { pin: undefined, isOwn: true, signal })) {
        const { profile } = parseLazyArtifact(bytes, `artifact ${digest}`)
        if (profile === undefined) break
        const descriptor = { mediaType: MEDIA_TYPES.lazyProfile, ...profile }
        const found = await this.#to.getBlob(descriptor, { maxBytes: MAX_PROFILE_BYTES, signal })
        return parseLazyProfile(found, `profile ${profile.digest}`)
      }
    } catch (error) {
      throwIfAborted(signal, `read the profile of ${image}`)
      if (!isLoamError(error)) throw error
    }
    return new Map()
  }

  /** Adds what containers of this store have read. */
  #unite(published: LazyProfile, indexes: readonly Indexed[]): LazyProfile {
    const layers = indexes.map(({ layer: { diffId }, index: { digest } }) => {
      const own = this.#metadata.lazy.profileOf(diffId)
      const spans = own?.indexDigest === digest ? own.spans : []
      return [digest, uniteSpans(published.get(digest) ?? [], spans)] as const
    })
    return new Map(layers.filter(([, spans]) => spans.length > 0))
  }
}
