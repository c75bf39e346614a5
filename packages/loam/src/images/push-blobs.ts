import { createWriteStream, rmSync, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { LoamError, toLoamError } from '../errors/index.ts'
import {
  type Descriptor,
  type DiffId,
  type Digest,
  digestOf,
  type DocumentKind,
  type ImageReference,
  isForeign,
  limitOf,
  splitDigest,
} from '../image/index.ts'
import { streamStored } from '../linux/index.ts'
import type { ImageLayerRecord } from '../metadata/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { counting } from '../exports/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { BlobSupply } from './blob-supply.ts'
import type { ImageServices } from './services.ts'
import type { ImageOptions } from './requests.ts'

/** How a pushed blob got into the registry. */
export type BlobRoute = 'exists' | 'mounted' | 'copied' | 'uploaded' | 'packed' | 'left out'

export type PushServices = Pick<
  ImageServices,
  'layers' | 'blobs' | 'ingest' | 'metadata' | 'sources' | 'retained'
>

export interface PushTarget {
  readonly reference: ImageReference
  readonly client: RegistryClient
}

export interface BlobPusherOptions {
  readonly image: ImageOptions
  readonly onBlob: (digest: Digest, route: BlobRoute) => void
  readonly onSent: (digest: Digest, sentBytes: number, totalBytes: number) => void
}

/** Pushes documents and blobs unchanged to a repository in the cheapest way. Each digest is pushed once. */
export class BlobPusher {
  readonly #services: PushServices
  readonly #to: PushTarget
  readonly #options: BlobPusherOptions
  readonly #supply: BlobSupply
  readonly #done = new Set<Digest>()

  constructor(services: PushServices, to: PushTarget, options: BlobPusherOptions) {
    this.#services = services
    this.#to = to
    this.#options = options
    this.#supply = new BlobSupply(services, {
      attempted: 'push',
      image: options.image,
      client: to.client,
    })
  }

  /**
   * Ensures that the registry has a blob: the registry has it or mounts it from another of its repositories, or the blob is uploaded from the store
   * or streamed from its source and verified. @throws REGISTRY_*, and LAYER_NOT_FOUND (`isGone`) if it is not available anywhere
   */
  async push(blob: Descriptor, origins: readonly string[], layer?: ImageLayerRecord): Promise<void> {
    const { digest } = blob
    if (this.#done.has(digest)) return
    const route = await this.#push(blob, origins, layer)
    this.#done.add(digest)
    this.#options.onBlob(digest, route)
  }

  async #push(
    blob: Descriptor,
    origins: readonly string[],
    layer: ImageLayerRecord | undefined,
  ): Promise<BlobRoute> {
    const { client, reference } = this.#to
    const { signal } = this.#options.image
    // Blobs that must not be distributed stay at their own addresses, as containers/image and docker do it.
    if (isForeign(blob)) return 'left out'
    if (await client.hasBlob(reference, blob.digest, signal)) return 'exists'
    for (const from of this.#repositoriesBeside(origins)) {
      if (await client.mountBlob(reference, blob.digest, from, signal)) return 'mounted'
    }
    const origin = await this.#supply.withBlob(blob, { origins, layer }, async (open) =>
      client.putBlob(reference, blob, this.#counted(open, blob), signal),
    )
    return origin === 'source' ? 'copied' : 'uploaded'
  }

  /** Reports the bytes of a blob as they are read. An upload that is repeated begins again. */
  #counted(open: () => Readable, { digest, sizeBytes }: Descriptor): () => Readable {
    return () => {
      let sentBytes = 0
      const report = (bytes: number) => {
        sentBytes += bytes
        this.#options.onSent(digest, sentBytes, sizeBytes)
      }
      report(0)
      const source = open()
      return Readable.from(counting(source, report)).once('close', () => source.destroy())
    }
  }

  /** Returns other repositories of the same registry that have served the blob. */
  #repositoriesBeside(origins: readonly string[]): string[] {
    const { reference } = this.#to
    return origins.flatMap((origin) => {
      const { name } = this.#services.sources.parse(origin)
      if (name.transport !== 'docker' || name.reference.registry !== reference.registry) return []
      return name.reference.repository === reference.repository ? [] : [name.reference.repository]
    })
  }

  /** Compresses a layer of the store by gzip, with the same result each time, and uploads it. */
  async pack(diffId: DiffId, mediaType: string): Promise<Descriptor> {
    const { layers, ingest } = this.#services
    const { client, reference } = this.#to
    const { signal } = this.#options.image
    const path = ingest().newPath('push')
    await layers.complete([diffId], signal)
    try {
      const tarPath = layers.tarPath(layers.get(diffId).diffId)
      await pipeline(
        streamStored(tarPath),
        createGzip(),
        createWriteStream(path, { flags: 'wx', mode: 0o600 }),
        {
          ...(signal === undefined ? {} : { signal }),
        },
      )
      const digest = await layers.trees.hashFile(path, signal)
      const blob = { mediaType, digest, sizeBytes: statSync(path).size }
      const isThere = await client.hasBlob(reference, digest, signal)
      const open = this.#counted(() => streamStored(path), blob)
      if (!isThere) await client.putBlob(reference, blob, open, signal)
      this.#done.add(digest)
      this.#options.onBlob(digest, isThere ? 'exists' : 'packed')
      return blob
    } catch (error) {
      throw toLoamError(error, `push layer ${diffId}`, signal)
    } finally {
      rmSync(path, { force: true })
    }
  }

  /** Returns a document from the store, or from where it came. @throws DOCUMENT_DAMAGED (`isGone`) if it is not available anywhere */
  async getDocument(
    descriptor: Pick<Descriptor, 'digest' | 'mediaType' | 'sizeBytes'>,
    kind: DocumentKind,
    origins: readonly string[],
  ): Promise<Buffer> {
    const { blobs, sources } = this.#services
    const stored = blobs.find(descriptor.digest, kind)
    if (stored !== undefined) return stored
    const limit = limitOf(kind, sources.documentLimits)
    const fetch = async (source: ImageSource) => {
      const bytes = await source.getDocument(descriptor, limit, this.#options.image.signal)
      const actual = digestOf(bytes, splitDigest(descriptor.digest).algorithm)
      if (actual === descriptor.digest) return bytes
      throw new LoamError('DIGEST_MISMATCH', `get ${kind} ${descriptor.digest}: its digest is ${actual}`)
    }
    return this.#supply.withOrigin(`${kind} ${descriptor.digest}`, origins, fetch, 'DOCUMENT_DAMAGED')
  }
}
