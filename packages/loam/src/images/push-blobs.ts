import { createReadStream, createWriteStream, rmSync, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import type { HeldBlob } from '../content/index.ts'
import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import {
  type Descriptor,
  type DiffId,
  type Digest,
  digestOf,
  type DocumentKind,
  type ImageReference,
  limitOf,
  splitDigest,
} from '../image/index.ts'
import type { ImageLayerRecord } from '../metadata/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { type ImageSource, registrySource } from '../sources/index.ts'
import { counting, isForeign, verified } from '../exports/index.ts'
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

/** Marks an error as "not available at any known location", unlike a failed transfer. */
export function isGone(error: unknown): boolean {
  return isLoamError(error) && error.details['isGone'] === true
}

/** Pushes documents and blobs unchanged to a repository in the cheapest way. Each digest is pushed once. */
export class BlobPusher {
  readonly #services: PushServices
  readonly #to: PushTarget
  readonly #options: BlobPusherOptions
  readonly #done = new Set<Digest>()

  constructor(services: PushServices, to: PushTarget, options: BlobPusherOptions) {
    this.#services = services
    this.#to = to
    this.#options = options
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
    const own = this.#openOwn(blob, layer)
    if (own !== undefined) {
      await client.putBlob(reference, blob, this.#counted(own, blob), signal)
      return 'uploaded'
    }
    using held = await this.#holdRetained(blob)
    if (held !== undefined) {
      const open = () => Readable.from(verified(createReadStream(held.path), blob))
      await client.putBlob(reference, blob, this.#counted(open, blob), signal)
      return 'uploaded'
    }
    await this.#withOrigin(`blob ${blob.digest}`, origins, async (source) => {
      // The source is asked before the upload begins, so that a source without the blob is skipped.
      const first = source.openBlob(blob, { signal })
      let begun: AsyncIterator<Buffer> | undefined = first[Symbol.asyncIterator]()
      const head = await begun.next()
      const open = () => {
        const stream = begun === undefined ? source.openBlob(blob, { signal }) : resume(head, begun)
        begun = undefined
        return Readable.from(verified(stream, blob))
      }
      await client.putBlob(reference, blob, this.#counted(open, blob), signal)
    })
    return 'copied'
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

  /** A config is in the store unchanged, and so is a layer that is transferred uncompressed. */
  #openOwn({ digest }: Descriptor, layer: ImageLayerRecord | undefined): (() => Readable) | undefined {
    const { blobs, layers } = this.#services
    if (layer === undefined) {
      const bytes = blobs.find(digest, 'config')
      return bytes === undefined ? undefined : () => Readable.from([bytes])
    }
    const known = layer.diffId === digest ? layers.find(layer.diffId) : undefined
    if (known === undefined) return undefined
    return () => createReadStream(layers.tarPath(known.diffId))
  }

  /** Finds a blob as its registry had it, if it was retained and is sound. Others may remove it meanwhile. */
  async #holdRetained(blob: Descriptor): Promise<HeldBlob | undefined> {
    const { retained, layers } = this.#services
    using stack = new DisposableStack()
    const held = stack.adopt(retained.hold(blob.digest, blob.sizeBytes), (each) => each?.[Symbol.dispose]())
    if (held === undefined) return undefined
    if (await layers.trees.hasDigest(held.path, blob.digest, this.#options.image.signal)) {
      stack.move()
      return held
    }
    await retained.remove(blob)
    return undefined
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
        createReadStream(tarPath),
        createGzip(),
        createWriteStream(path, { flags: 'wx', mode: 0o600 }),
        {
          ...(signal === undefined ? {} : { signal }),
        },
      )
      const digest = await layers.trees.hashFile(path, signal)
      const blob = { mediaType, digest, sizeBytes: statSync(path).size }
      const isThere = await client.hasBlob(reference, digest, signal)
      const open = this.#counted(() => createReadStream(path), blob)
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
    return this.#withOrigin(`${kind} ${descriptor.digest}`, origins, fetch, 'DOCUMENT_DAMAGED')
  }

  /** Calls a function with each source until one succeeds. Failures before that mean that the source does not have it. */
  async #withOrigin<T>(
    what: string,
    origins: readonly string[],
    act: (source: ImageSource) => Promise<T>,
    code: 'LAYER_NOT_FOUND' | 'DOCUMENT_DAMAGED' = 'LAYER_NOT_FOUND',
  ): Promise<T> {
    const { sources } = this.#services
    const { image } = this.#options
    const failures: string[] = []
    for (const origin of origins) {
      const { name } = sources.parse(origin)
      try {
        // A digest is found without resolving the name.
        if (name.transport === 'docker')
          return await act(
            registrySource(name.reference, this.#to.client, () => this.#services.ingest().newPath('source')),
          )
        return await sources.with(name, image, act)
      } catch (error) {
        const failure = toLoamError(error, `get ${what} from ${origin}`, image.signal)
        if (failure.code === 'CANCELED' || /^(?:upload|mount) /.test(failure.message)) throw failure
        failures.push(failure.message)
      }
    }
    const why = failures.length === 0 ? 'its source is unknown' : failures.join('; ')
    throw new LoamError(code, `push ${what}: it is not in the store and could not be fetched: ${why}`, {
      details: { isGone: true },
    })
  }
}

async function* resume(head: IteratorResult<Buffer>, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  for (let next = head; next.done !== true; next = await rest.next()) yield next.value
}
