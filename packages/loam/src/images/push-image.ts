import { LoamError, toLoamError } from '../errors/index.ts'
import {
  type Descriptor,
  type Digest,
  digestOf,
  formatReference,
  listReferences,
  parseManifestDocument,
  compressionOf,
  familyOf,
  layerType,
  replaceLayers,
} from '../image/index.ts'
import { checkPin, type ImageLayerRecord, type ImageRecord } from '../metadata/index.ts'
import { putManifest } from '../sources/index.ts'
import { isGone } from './blob-supply.ts'
import type { IndexedImage } from './index-image.ts'
import { BlobPusher, type BlobRoute, type PushServices, type PushTarget } from './push-blobs.ts'
import type { ImageOptions } from './requests.ts'

/** Maximum depth of nested indexes. */
const MAX_DEPTH = 4

/** An event during a push. */
export type PushEvent =
  | {
      /** A blob is in the registry now. */
      readonly kind: 'blob'
      /** Digest of the blob. */
      readonly digest: Digest
      /** How the blob got there. */
      readonly route: BlobRoute
    }
  | {
      /** The blobs of a manifest are known. Events of each of them follow. */
      readonly kind: 'blobs'
      /** Config and layers. */
      readonly blobs: readonly {
        /** Digest of the blob. */
        readonly digest: Digest
        /** Its size. */
        readonly totalBytes: number
      }[]
    }
  | {
      /** A blob is being uploaded. */
      readonly kind: 'sending'
      /** Digest of the blob. */
      readonly digest: Digest
      /** Bytes that were given to the connection. */
      readonly sentBytes: number
      /** Size of the blob. */
      readonly totalBytes: number
    }
  | DigestChange

/** The pushed manifest or index has another digest than the requested one. */
export interface DigestChange {
  /** Distinguishes this event from others. */
  readonly kind: 'digest'
  /** The requested digest. */
  readonly from: Digest
  /** The pushed digest. */
  readonly to: Digest
  /** Why, as a sentence. */
  readonly reason: string
}

/** How to push an image with several platforms. */
export interface PushOptions {
  /** Fail instead of pushing only one platform of an index. */
  readonly allPlatforms?: boolean | undefined
  /** Allow one platform to replace an index. */
  readonly replaceIndex?: boolean | undefined
  /** Called for each blob, and when the digest changes. It must not throw. */
  readonly onPush?: ((event: PushEvent) => void) | undefined
}

/** Options of a push. */
export interface PushImageOptions extends ImageOptions, PushOptions {
  /** Reference to push to. Undefined: the image's own name. */
  readonly to?: string | undefined
  /** Also make the lazy indexes of its layers, and push them beside it. */
  readonly index?: boolean | undefined
}

/** The result of a push. */
export interface PushedImage {
  /** Digest of the manifest or index there. */
  readonly digest: Digest
  /** Layers of the manifest; empty for an index. */
  readonly layers: readonly Descriptor[]
  /** Why the digest differs from that of the image; empty if it is the same. */
  readonly changes: readonly Omit<DigestChange, 'kind'>[]
  /** The lazy indexes that were pushed beside it, if that was requested. Of an index, those of this machine's platform. */
  readonly lazyIndexes?: IndexedImage
}

/** An image of the store, and the digest that its name refers to: of the index if there is one. */
export interface PushedSubject {
  readonly record: ImageRecord
  readonly targetDigest: Digest
}

/**
 * Uploads an image of the store unchanged: the same manifest, or the index with all its platforms unless one platform is requested. Blobs that the
 * registry has are not sent; others are mounted, uploaded or copied from their source. Layers that Loam created, and layers whose blobs are no longer
 * available, are compressed by gzip, which changes the digest; the rest of the manifest stays.
 * @throws REGISTRY_*, LAYER_NOT_FOUND, DOCUMENT_DAMAGED, INDEX_EXISTS, DIGEST_MISMATCH for a name with another digest
 */
export async function pushImage(
  services: PushServices,
  subject: PushedSubject,
  to: PushTarget,
  options: ImageOptions & PushOptions,
): Promise<PushedImage> {
  return new ImagePush(services, to, options).run(subject)
}

/** Records that a registry has an image, which is then no longer local, and that the registry has those of its blobs that were pushed unchanged. */
export async function notePushed(
  { metadata: { images, origins } }: Pick<PushServices, 'metadata'>,
  { record }: PushedSubject,
  pushed: PushedImage,
  name: string,
): Promise<void> {
  await images.markPushed(record.digest, pushed.digest)
  if (pushed.changes.length > 0) return
  await origins.put(
    [pushed.digest, record.digest, ...record.layers.map(({ blobDigest }) => blobDigest)],
    name,
  )
}

class ImagePush {
  readonly #services: PushServices
  readonly #to: PushTarget
  readonly #options: ImageOptions & PushOptions
  readonly #blobs: BlobPusher
  readonly #changes: Omit<DigestChange, 'kind'>[] = []
  /** Why the first layer that cannot be pushed unchanged cannot. */
  #gone: string | undefined

  constructor(services: PushServices, to: PushTarget, options: ImageOptions & PushOptions) {
    this.#services = services
    this.#to = to
    this.#options = options
    const onBlob = (digest: Digest, route: BlobRoute) => options.onPush?.({ kind: 'blob', digest, route })
    const onSent = (digest: Digest, sentBytes: number, totalBytes: number) =>
      options.onPush?.({ kind: 'sending', digest, sentBytes, totalBytes })
    this.#blobs = new BlobPusher(services, to, { image: options, onBlob, onSent })
  }

  async run({ record, targetDigest }: PushedSubject): Promise<PushedImage> {
    const { client, reference } = this.#to
    const { platform, allPlatforms = false, replaceIndex = false, signal } = this.#options
    const isPlatformNamed = reference.digest === record.digest || (platform !== undefined && !allPlatforms)
    const isWhole = targetDigest !== record.digest && !isPlatformNamed
    checkPin(formatReference(reference), [isWhole ? targetDigest : record.digest])
    const present = await client.findPushed(reference, signal)
    const wanted = isWhole ? targetDigest : record.digest
    if (present?.digest === wanted) return this.#result(wanted, [])
    if (isWhole) {
      try {
        await this.#pushIndex(targetDigest)
        return this.#result(targetDigest, [])
      } catch (error) {
        if (allPlatforms || !isGone(error)) throw error
        const { message } = toLoamError(error, 'push')
        this.#change(targetDigest, record.digest, `only ${record.platform}: ${message}`)
      }
    }
    if (present?.isIndex === true && !replaceIndex) {
      throw new LoamError(
        'INDEX_EXISTS',
        `push to ${reference.registry}/${reference.repository}: the tag refers to an index (${present.digest}), which a push of ${record.platform} alone would replace`,
        {
          hint: 'Push all platforms (--all-platforms), choose another tag, or replace the index (--replace-index).',
        },
      )
    }
    return this.#pushRecord(record)
  }

  #result(digest: Digest, layers: readonly Descriptor[]): PushedImage {
    return { digest, layers, changes: this.#changes }
  }

  #change(from: Digest, to: Digest, reason: string): void {
    this.#changes.push({ from, to, reason })
    this.#options.onPush?.({ kind: 'digest', from, to, reason })
  }

  #announce(blobs: readonly Descriptor[]): void {
    if (blobs.length === 0) return
    const all = blobs.map(({ digest, sizeBytes }) => ({ digest, totalBytes: sizeBytes }))
    this.#options.onPush?.({ kind: 'blobs', blobs: all })
  }

  /** Uploads an index with all documents and blobs that it refers to, and then itself under the tag. @throws with `isGone` if a part of it is not available anywhere */
  async #pushIndex(digest: Digest): Promise<void> {
    const origins = this.#services.metadata.origins.list(digest)
    const bytes = await this.#blobs.getDocument({ digest, mediaType: '', sizeBytes: -1 }, 'manifest', origins)
    await this.#pushChildren(bytes, digest, origins, 0)
    await putManifest(this.#to, { digest, bytes, mediaType: undefined }, this.#options.signal)
  }

  async #pushChildren(
    bytes: Buffer,
    digest: Digest,
    origins: readonly string[],
    depth: number,
  ): Promise<void> {
    if (depth > MAX_DEPTH)
      throw new LoamError('DOCUMENT_INVALID', `push ${digest}: more than ${MAX_DEPTH} nested indexes`)
    const { client, reference } = this.#to
    const { signal } = this.#options
    const { manifests, blobs } = listReferences(bytes, `manifest ${digest}`)
    const layers = this.#services.metadata.images.find(digest)?.layers ?? []
    this.#announce(blobs)
    for (const blob of blobs) {
      const layer = layers.find(({ blobDigest }) => blobDigest === blob.digest)
      await this.#blobs.push(blob, [...origins, ...this.#services.metadata.origins.list(blob.digest)], layer)
    }
    for (const child of manifests) {
      const own = { ...reference, tag: undefined, digest: child.digest }
      if ((await client.findPushed(own, signal)) !== undefined) continue
      const childBytes = await this.#blobs.getDocument(child, 'manifest', origins)
      await this.#pushChildren(childBytes, child.digest, origins, depth + 1)
      const { digest: childDigest, mediaType } = child
      await putManifest(
        { client, reference: own },
        { digest: childDigest, bytes: childBytes, mediaType },
        signal,
      )
    }
  }

  async #pushRecord(record: ImageRecord): Promise<PushedImage> {
    const { reference } = this.#to
    const { blobs, metadata } = this.#services
    const { signal } = this.#options
    const origins = metadata.origins.list(record.digest)
    const sizeBytes = -1
    const given = { digest: record.digest, mediaType: record.mediaType, sizeBytes }
    const bytes = await this.#blobs.getDocument(given, 'manifest', origins)
    const manifest = parseManifestDocument(bytes, record.mediaType, `manifest ${record.digest}`)
    if (manifest.kind !== 'manifest')
      throw new LoamError('DOCUMENT_INVALID', `push ${record.digest}: it is an index`)
    // Every image needs a readable config, whichever source it comes from.
    blobs.get(record.configDigest, 'config')
    this.#announce([manifest.config, ...manifest.layers])
    await this.#blobs.push(manifest.config, origins)
    const layers: Descriptor[] = []
    for (const [index, layer] of manifest.layers.entries()) {
      const known = record.layers[index]
      layers.push(known === undefined ? layer : await this.#pushLayer(layer, known, origins))
    }
    const isSame = layers.every(({ digest }, index) => digest === manifest.layers[index]?.digest)
    const pushed = isSame ? bytes : replaceLayers(bytes, layers)
    const digest = isSame ? record.digest : digestOf(pushed)
    if (!isSame)
      this.#change(record.digest, digest, ['layers recompressed', this.#gone ?? []].flat().join(': '))
    checkPin(formatReference(reference), [digest])
    await putManifest(this.#to, { digest, bytes: pushed, mediaType: manifest.mediaType }, signal)
    return this.#result(digest, layers)
  }

  /** Uploads a layer unchanged if its blob is available; otherwise as another known blob of the same layer, or compressed again. */
  async #pushLayer(
    layer: Descriptor,
    known: ImageLayerRecord,
    origins: readonly string[],
  ): Promise<Descriptor> {
    const { metadata } = this.#services
    const { client, reference } = this.#to
    const blobOrigins = metadata.origins.list(layer.digest)
    const isMade = origins.length === 0 && blobOrigins.length === 0
    if (!isMade || (await client.hasBlob(reference, layer.digest, this.#options.signal))) {
      try {
        await this.#blobs.push(layer, [...new Set([...blobOrigins, ...origins])], known)
        return layer
      } catch (error) {
        if (!isGone(error)) throw error
        this.#gone ??= toLoamError(error, 'push').message
      }
    }
    for (const other of metadata.origins.blobsOf(known.diffId)) {
      if (other.digest === layer.digest) continue
      try {
        await this.#blobs.push(other, metadata.origins.list(other.digest))
        return { ...other, mediaType: packedType(layer, other.mediaType) }
      } catch (error) {
        if (!isGone(error)) throw error
      }
    }
    return this.#blobs.pack(known.diffId, packedType(layer, undefined))
  }
}

/** Returns a layer's media type in the style of its manifest, Docker's or OCI's. `packed` is the type of the blob that replaces it; undefined for gzip. */
function packedType({ mediaType }: Descriptor, packed: string | undefined): string {
  return layerType(familyOf(mediaType), packed === undefined ? 'gzip' : compressionOf(packed))
}
