import type { Settings } from '../config/index.ts'
import { isLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import type { FileLock } from '../linux/index.ts'
import type { ImageRecord, ImageType } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { ImageStore, LazyPlan } from '../stores/index.ts'
import type { ImageSession } from './image-sessions.ts'
import { whyEagerOf } from './requests.ts'

type Layer = ImageRecord['layers'][number]

/** An image, and the layer of it that is wanted. */
interface LayerOfImage {
  readonly image: ImageRecord
  readonly layer: Layer
}

/** A client that has announced a layer and does not request it within this time has given up, or unpacks it itself. */
const UNCLAIMED_MS = 60_000

export interface PrefetchServices {
  readonly stores: Readonly<Record<ImageType, ImageStore>>
  readonly layers: LayerStore
  readonly settings: Pick<Settings, 'lazy_pull'>
  /** Called with an image whose top layer a client has got: the layers below it are here. It must not throw. */
  readonly onPulled: (image: ImageRecord, source: ImageSource) => void
}

/** A layer that is fetched before it is requested. */
interface Begun {
  readonly session: ImageSession
  readonly lease: Promise<FileLock>
}

/** Fetches layers that a client has announced, all at once while it requests them one after the other. */
export class LayerPrefetch implements AsyncDisposable {
  readonly #services: PrefetchServices
  readonly #begun = new Map<DiffId, Begun>()
  /** Stops transfers in progress, by layer. */
  readonly #stops = new Map<DiffId, AbortController>()
  /** What is known of the lazy indexes of an image, as long as its source is open. */
  readonly #plans = new WeakMap<ImageSource, Promise<LazyPlan>>()

  constructor(services: PrefetchServices) {
    this.#services = services
  }

  /**
   * Returns a lease on a layer that is in the store and on the disk, of a lazy one only the tree, and starts to fetch the layers that will be requested next. @throws the errors
   * of its source and of the layer
   */
  async claim(
    session: ImageSession,
    { image, layer }: LayerOfImage,
    announced: readonly Layer[],
  ): Promise<FileLock> {
    const lease = await this.#claim(session, { image, layer }, announced)
    // Nobody waits for it; a source that cannot be opened any more was told by the layers.
    if (layer.diffId === image.layers.at(-1)?.diffId)
      session
        .with(async (source) => {
          this.#services.onPulled(image, source)
        })
        .catch(() => undefined)
    return lease
  }

  /**
   * Completes the layers up to one that are partial, and whose indexes are not trusted for the image: clients do not ask for layers of which they find a snapshot.
   * @throws the errors of the layers
   */
  async admit(session: ImageSession, { image, layer }: LayerOfImage): Promise<void> {
    const { layers } = this.#services
    const upTo = image.layers.slice(0, image.layers.indexOf(layer) + 1)
    for (const below of upTo) {
      if (layers.partial.sourceOf(below.diffId) === undefined) continue
      const lease = await this.#bring(session, { image, layer: below })
      lease.release()
    }
  }

  async #claim(
    session: ImageSession,
    { image, layer }: LayerOfImage,
    announced: readonly Layer[],
  ): Promise<FileLock> {
    for (const one of [layer, ...announced]) {
      if (!this.#begun.has(one.diffId)) this.#begin(session, { image, layer: one })
    }
    const begun = this.#begun.get(layer.diffId)
    this.#begun.delete(layer.diffId)
    if (begun === undefined) return this.#bring(session, { image, layer })
    if (begun.session === session) return begun.lease
    try {
      return await begun.lease
    } catch (error) {
      if (isLoamError(error, 'NO_SPACE')) throw error
      // The other image has another location, or credentials that were refused.
    }
    return this.#bring(session, { image, layer })
  }

  /** Stops fetching announced layers that will not be requested, and waits until none of them is left unfinished. */
  async abandon(announced: readonly Layer[]): Promise<void> {
    await Promise.all(
      announced.map(async ({ diffId }) => {
        const begun = this.#begun.get(diffId)
        if (begun === undefined) return
        this.#stops.get(diffId)?.abort()
        await this.#drop(diffId, begun)
      }),
    )
  }

  #begin(session: ImageSession, wanted: LayerOfImage): void {
    const { layer } = wanted
    const begun = { session, lease: this.#bring(session, wanted) }
    this.#begun.set(layer.diffId, begun)
    const dropLater = () => setTimeout(() => void this.#drop(layer.diffId, begun), UNCLAIMED_MS).unref()
    begun.lease.then(dropLater, dropLater)
  }

  async #bring(session: ImageSession, { image, layer }: LayerOfImage): Promise<FileLock> {
    const { stores, layers } = this.#services
    const stop = new AbortController()
    this.#stops.set(layer.diffId, stop)
    const forget = () => {
      if (this.#stops.get(layer.diffId) === stop) this.#stops.delete(layer.diffId)
    }
    return session
      .with(async (source) => {
        const plan = await this.#plan(session, source, image)
        const lease = await stores.docker.leaseLayer(source, layer, { plan, signal: stop.signal })
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

  /** Looks for the lazy indexes of an image once for all of its layers. */
  async #plan(session: ImageSession, source: ImageSource, image: ImageRecord): Promise<LazyPlan | undefined> {
    const { stores, settings } = this.#services
    if (settings.lazy_pull === 'off') return undefined
    const plan =
      this.#plans.get(source) ??
      stores.docker.planLazily(source, image, { signal: session.signal, whyEager: whyEagerOf(session) })
    this.#plans.set(source, plan)
    return plan
  }

  async #drop(diffId: DiffId, begun: Begun): Promise<void> {
    if (this.#begun.get(diffId) !== begun) return
    this.#begun.delete(diffId)
    const [result] = await Promise.allSettled([begun.lease])
    if (result.status === 'fulfilled') result.value.release()
  }

  /** Stops transfers in progress, and releases leases that no client requested. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const stop of this.#stops.values()) stop.abort()
    await Promise.all([...this.#begun].map(async ([diffId, begun]) => this.#drop(diffId, begun)))
  }
}
