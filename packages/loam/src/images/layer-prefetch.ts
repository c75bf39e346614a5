import type { DiffId } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import type { FileLock } from '../linux/index.ts'
import type { ImageRecord, ImageType } from '../metadata/index.ts'
import type { ImageName } from '../sources/index.ts'
import type { ImageStore } from '../stores/index.ts'
import type { SourceOpener } from './source-opener.ts'

type Layer = ImageRecord['layers'][number]

/** A client that has announced a layer and does not request it within this time has given up, or unpacks it itself. */
const UNCLAIMED_MS = 60_000

export interface PrefetchServices {
  readonly sources: Pick<SourceOpener, 'with'>
  readonly stores: Readonly<Record<ImageType, ImageStore>>
  readonly layers: LayerStore
}

/** Fetches layers that a client has announced, all at once while it requests them one after the other. */
export class LayerPrefetch implements AsyncDisposable {
  readonly #services: PrefetchServices
  readonly #leases = new Map<DiffId, Promise<FileLock>>()
  /** Stops transfers in progress, by layer. */
  readonly #stops = new Map<DiffId, AbortController>()

  constructor(services: PrefetchServices) {
    this.#services = services
  }

  /**
   * Returns a lease on a layer that is in the store and on the disk, and starts to fetch the layers that will be requested next. @throws the errors
   * of its source and of the layer
   */
  async claim(name: ImageName, layer: Layer, announced: readonly Layer[]): Promise<FileLock> {
    for (const one of [layer, ...announced]) {
      if (!this.#leases.has(one.diffId)) this.#begin(name, one)
    }
    const lease = this.#leases.get(layer.diffId)
    this.#leases.delete(layer.diffId)
    return lease ?? this.#bring(name, layer)
  }

  /** Stops fetching announced layers that will not be requested, and waits until none of them is left unfinished. */
  async abandon(announced: readonly Layer[]): Promise<void> {
    await Promise.all(
      announced.map(async ({ diffId }) => {
        const lease = this.#leases.get(diffId)
        if (lease === undefined) return
        this.#stops.get(diffId)?.abort()
        await this.#drop(diffId, lease)
      }),
    )
  }

  #begin(name: ImageName, layer: Layer): void {
    const lease = this.#bring(name, layer)
    this.#leases.set(layer.diffId, lease)
    const dropLater = () => setTimeout(() => void this.#drop(layer.diffId, lease), UNCLAIMED_MS).unref()
    lease.then(dropLater, dropLater)
  }

  async #bring(name: ImageName, layer: Layer): Promise<FileLock> {
    const { sources, stores, layers } = this.#services
    const stop = new AbortController()
    this.#stops.set(layer.diffId, stop)
    const forget = () => {
      if (this.#stops.get(layer.diffId) === stop) this.#stops.delete(layer.diffId)
    }
    return sources
      .with(name, {}, async (source) => {
        const lease = await stores.docker.leaseLayer(source, layer, stop.signal)
        try {
          // The client is going to depend on it.
          await layers.sync([layer.diffId])
          return lease
        } catch (error) {
          lease.release()
          throw error
        }
      })
      .finally(forget)
  }

  async #drop(diffId: DiffId, lease: Promise<FileLock>): Promise<void> {
    if (this.#leases.get(diffId) !== lease) return
    this.#leases.delete(diffId)
    const [result] = await Promise.allSettled([lease])
    if (result.status === 'fulfilled') result.value.release()
  }

  /** Stops transfers in progress, and releases leases that no client requested. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const stop of this.#stops.values()) stop.abort()
    await Promise.all([...this.#leases].map(async ([diffId, lease]) => this.#drop(diffId, lease)))
  }
}
