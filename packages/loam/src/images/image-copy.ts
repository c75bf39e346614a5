import { LoamError } from '../errors/index.ts'
import { counting, type ImageSink, type SinkManifest, verified } from '../exports/index.ts'
import {
  describeEntries,
  type Descriptor,
  type Digest,
  digestOf,
  type DocumentLimits,
  formatPlatform,
  isForeign,
  limitOf,
  listReferences,
  mayBeIndex,
  mediaTypeOf,
  parseManifestDocument,
  type Platform,
  rankEntries,
  splitDigest,
} from '../image/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { PushEvent } from './push-image.ts'

/** Maximum depth of nested indexes. */
const MAX_DEPTH = 4

/** Options of a copy between two places. */
export interface ImageCopyOptions {
  readonly limits: DocumentLimits
  /** Whether layers that must not be distributed are copied, too: without them, no program loads the format of the sink. */
  readonly withForeign: boolean
  readonly onCopy: ((event: PushEvent) => void) | undefined
  readonly signal: AbortSignal | undefined
}

/** Copies images from one source to one sink, unchanged to the byte. Each digest is copied once. */
export class ImageCopy {
  readonly #source: ImageSource
  readonly #sink: ImageSink
  readonly #options: ImageCopyOptions
  readonly #done = new Set<Digest>()

  constructor(source: ImageSource, sink: ImageSink, options: ImageCopyOptions) {
    this.#source = source
    this.#sink = sink
    this.#options = options
  }

  /** Returns what the name of the source refers to, or its image for a platform. @throws the errors of the source, IMAGE_NOT_FOUND for a platform that it does not have */
  async resolve(platform: Platform | undefined): Promise<SinkManifest> {
    const { bytes, mediaType, digest } = await this.#source.resolve(this.#options.signal)
    const whole = { digest, bytes, mediaType: mediaTypeOf(bytes, mediaType, `manifest ${digest}`) }
    return platform === undefined ? whole : this.#choose(whole, platform, 0)
  }

  async #choose(manifest: SinkManifest, platform: Platform, depth: number): Promise<SinkManifest> {
    const document = parseManifestDocument(manifest.bytes, manifest.mediaType, `manifest ${manifest.digest}`)
    if (document.kind === 'manifest') return manifest
    const [best] = rankEntries(document.manifests, platform)
    if (best === undefined || depth === MAX_DEPTH)
      throw new LoamError(
        'IMAGE_NOT_FOUND',
        `copy ${this.#source.name}: it has no image for ${formatPlatform(platform)}`,
        { hint: `It has: ${describeEntries(document)}` },
      )
    return this.#choose(await this.get(best.entry), platform, depth + 1)
  }

  /** Copies a manifest or an index with everything that it refers to, under names of the sink. */
  async copy(manifest: SinkManifest, names: readonly string[]): Promise<void> {
    await this.#copyParts(manifest, 0)
    await this.#sink.putImage(manifest, names)
  }

  /**
   * Copies what is kept beside an image, under its tag if it has one. Returns false if the sink keeps another artifact under that tag, which has
   * signatures of its own, and `force` is not set.
   */
  async copyReferrer(manifest: SinkManifest, tag: string | undefined, force: boolean): Promise<boolean> {
    if (tag !== undefined && !force && (await this.#sink.hasAnother?.(tag, manifest.digest)) === true)
      return false
    await this.#copyParts(manifest, 0)
    if (tag === undefined) await this.#sink.putManifest(manifest)
    else await this.#sink.putImage(manifest, [tag])
    return true
  }

  /** Lists the digests of a manifest and of all below it, also of those that the sink had. @throws as `get` */
  async listManifests(manifest: SinkManifest): Promise<Digest[]> {
    const found = new Set<Digest>()
    const list = async ({ bytes, digest }: SinkManifest, depth: number): Promise<void> => {
      found.add(digest)
      for (const child of listReferences(bytes, `manifest ${digest}`).manifests) {
        if (found.has(child.digest)) continue
        found.add(child.digest)
        if (mayBeIndex(child.mediaType) && depth < MAX_DEPTH) await list(await this.get(child), depth + 1)
      }
    }
    await list(manifest, 0)
    return [...found]
  }

  async #copyParts({ bytes, digest }: SinkManifest, depth: number): Promise<void> {
    if (depth > MAX_DEPTH)
      throw new LoamError('DOCUMENT_INVALID', `copy ${digest}: more than ${MAX_DEPTH} nested indexes`)
    const { manifests, blobs } = listReferences(bytes, `manifest ${digest}`)
    const wanted = blobs.map((blob) => ({ digest: blob.digest, totalBytes: blob.sizeBytes }))
    if (wanted.length > 0) this.#options.onCopy?.({ kind: 'blobs', blobs: wanted })
    for (const blob of blobs) await this.#copyBlob(blob)
    for (const child of manifests) {
      if (this.#done.has(child.digest)) continue
      this.#done.add(child.digest)
      if (await this.#sink.hasManifest(child.digest)) continue
      const found = await this.get(child)
      await this.#copyParts(found, depth + 1)
      await this.#sink.putManifest(found)
    }
  }

  async #copyBlob(blob: Descriptor): Promise<void> {
    const { digest, sizeBytes: totalBytes } = blob
    if (this.#done.has(digest)) return
    const { onCopy, signal } = this.#options
    const open = () => {
      let sentBytes = 0
      onCopy?.({ kind: 'sending', digest, sentBytes, totalBytes })
      return counting(verified(this.#source.openBlob(blob, { signal }), blob), (bytes) => {
        sentBytes += bytes
        onCopy?.({ kind: 'sending', digest, sentBytes, totalBytes })
      })
    }
    // Blobs that must not be distributed stay at their own addresses, as in containers/image and docker, unless the format needs them.
    const isLeftOut = isForeign(blob) && !this.#options.withForeign
    const found = isLeftOut ? 'left out' : await this.#sink.findBlob(blob)
    if (found === undefined) await this.#sink.putBlob(blob, open)
    this.#done.add(digest)
    onCopy?.({ kind: 'blob', digest, route: found ?? 'copied' })
  }

  /** Gets a manifest by its descriptor. @throws DIGEST_MISMATCH, and the errors of the source */
  async get(descriptor: Descriptor): Promise<SinkManifest> {
    const { limits, signal } = this.#options
    const bytes = await this.#source.getDocument(descriptor, limitOf('manifest', limits), signal)
    const { digest, mediaType } = descriptor
    const actual = digestOf(bytes, splitDigest(digest).algorithm)
    if (actual !== digest)
      throw new LoamError('DIGEST_MISMATCH', `get manifest ${digest}: its digest is ${actual}`)
    return { digest, bytes, mediaType: mediaTypeOf(bytes, mediaType, `manifest ${digest}`) }
  }
}
