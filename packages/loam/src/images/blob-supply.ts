import { Readable } from 'node:stream'
import type { HeldBlob } from '../content/index.ts'
import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import type { Descriptor, ImageReference } from '../image/index.ts'
import { streamStored } from '../linux/index.ts'
import type { ImageLayerRecord } from '../metadata/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { type ImageSource, registrySource } from '../sources/index.ts'
import { verified } from '../exports/index.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'

/** Where a blob came from: the store, the retained blobs, or a source. */
type BlobOrigin = 'store' | 'retained' | 'source'

/** What is known about a blob. */
export interface WantedBlob {
  /** Images whose sources may have it, in the order in which they are asked. */
  readonly origins: readonly string[]
  /** The layer that it is the blob of; undefined for a config. */
  readonly layer: Pick<ImageLayerRecord, 'diffId'> | undefined
}

interface SupplyOptions {
  /** A verb, for errors. */
  readonly attempted: string
  readonly image: ImageOptions
  /** Asks all registries. Undefined: each has a client of its own. */
  readonly client?: RegistryClient
}

type Services = Pick<ImageServices, 'layers' | 'blobs' | 'ingest' | 'sources' | 'retained'>

/** Marks an error as "not available at any known location", unlike a failed transfer. */
export function isGone(error: unknown): boolean {
  return isLoamError(error) && error.details['isGone'] === true
}

/** Gives back blobs as registries have them: from the store, from the retained blobs, or fetched again. */
export class BlobSupply {
  readonly #services: Services
  readonly #options: SupplyOptions

  constructor(services: Services, options: SupplyOptions) {
    this.#services = services
    this.#options = options
  }

  /**
   * Calls a function with a blob, which it may open several times. What a source sends is verified on the way, and its last bytes follow after that.
   * @throws LAYER_NOT_FOUND (`isGone`) if it is not available anywhere, and what the function throws
   */
  async withBlob(
    blob: Descriptor,
    { origins, layer }: WantedBlob,
    act: (open: () => Readable) => Promise<void>,
  ): Promise<BlobOrigin> {
    const own = this.#openOwn(blob, layer)
    if (own !== undefined) {
      await act(own)
      return 'store'
    }
    using held = await this.#holdRetained(blob)
    if (held !== undefined) {
      const { path } = held
      await act(() => Readable.from(verified(streamStored(path), blob)))
      return 'retained'
    }
    const { signal } = this.#options.image
    await this.withOrigin(`blob ${blob.digest}`, origins, async (source) => {
      // The source is asked before the function begins, so that a source without the blob is skipped.
      const first = source.openBlob(blob, { signal })
      let begun: AsyncIterator<Buffer> | undefined = first[Symbol.asyncIterator]()
      const head = await begun.next()
      try {
        await act(() => {
          const stream = begun === undefined ? source.openBlob(blob, { signal }) : resume(head, begun)
          begun = undefined
          return Readable.from(verified(stream, blob))
        })
      } finally {
        // The function did not open it, and the connection to the registry is free again.
        await begun?.return?.().catch(() => undefined)
      }
    })
    return 'source'
  }

  /** A config is in the store unchanged, and so is a layer that is transferred uncompressed. */
  #openOwn({ digest }: Descriptor, layer: WantedBlob['layer']): (() => Readable) | undefined {
    const { blobs, layers } = this.#services
    if (layer === undefined) {
      const bytes = blobs.find(digest, 'config')
      return bytes === undefined ? undefined : () => Readable.from([bytes])
    }
    const known = layer.diffId === digest ? layers.find(layer.diffId) : undefined
    if (known === undefined) return undefined
    return () => streamStored(layers.tarPath(known.diffId))
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

  /** Calls a function with each source until one succeeds. Failures before that mean that the source does not have it. */
  async withOrigin<T>(
    what: string,
    origins: readonly string[],
    act: (source: ImageSource) => Promise<T>,
    code: 'LAYER_NOT_FOUND' | 'DOCUMENT_DAMAGED' = 'LAYER_NOT_FOUND',
  ): Promise<T> {
    const { sources } = this.#services
    const { attempted, image } = this.#options
    const failures: string[] = []
    for (const origin of origins) {
      const { name } = sources.parse(origin)
      try {
        // A digest is found without resolving the name.
        if (name.transport === 'docker') return await this.#atRegistry(name.reference, act)
        return await sources.with(name, image, act)
      } catch (error) {
        const failure = toLoamError(error, `get ${what} from ${origin}`, image.signal)
        if (failure.code === 'CANCELED' || /^(?:upload|mount|write) /.test(failure.message)) throw failure
        failures.push(failure.message)
      }
    }
    const why = failures.length === 0 ? 'its source is unknown' : failures.join('; ')
    throw new LoamError(
      code,
      `${attempted} ${what}: it is not in the store and could not be fetched: ${why}`,
      { details: { isGone: true } },
    )
  }

  async #atRegistry<T>(reference: ImageReference, act: (source: ImageSource) => Promise<T>): Promise<T> {
    const { client, image } = this.#options
    const newPath = () => this.#services.ingest().newPath('source')
    const ask = async (at: RegistryClient) => act(registrySource(reference, at, newPath))
    if (client !== undefined) return ask(client)
    return this.#services.sources.withClient(reference.registry, image, ask)
  }
}

async function* resume(head: IteratorResult<Buffer>, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  for (let next = head; next.done !== true; next = await rest.next()) yield next.value
}
