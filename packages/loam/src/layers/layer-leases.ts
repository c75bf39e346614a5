import { leaseOrMake, lockPath, SingleFlight, type StorePaths } from '../content/index.ts'
import { isLoamError, type LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import type { FileLock } from '../linux/index.ts'
import type { LayerRecord, LazySource } from '../metadata/index.ts'
import type { LeftOutXattrs } from '../tree/index.ts'
import type { WantedLayer } from './wanted-layer.ts'
import type { CompleteOptions } from './layer-filler.ts'
import type { PartialLayers, TrustedIndex } from './partial-layers.ts'

/** How far one layer is. */
export type LayerProgress =
  | {
      /** Its tree is here, and its data is fetched when it is read and in the background. */
      readonly state: 'lazy'
      /** Size of its tar in bytes. */
      readonly totalBytes: number
    }
  | {
      /** It was in the store already. */
      readonly state: 'exists'
    }
  | {
      /** It waits for others that fetch it. */
      readonly state: 'waiting'
      /** The process that does; undefined if it is not known. */
      readonly holderPid: number | undefined
    }
  | {
      /** It is in the store now. */
      readonly state: 'done'
      /** xattrs that its files do not get; undefined when they get all. */
      readonly leftOutXattrs: LeftOutXattrs | undefined
    }
  | {
      /** It is being downloaded. */
      readonly state: 'fetching'
      /** Bytes of the blob that have come. */
      readonly receivedBytes: number
      /** Size of the blob in bytes. */
      readonly totalBytes: number
    }

type OnProgress = (progress: LayerProgress) => void

/** Who in this process waits for a layer. */
interface LayerWatchers {
  readonly all: Set<OnProgress>
  hasFetched: boolean
}

export interface LeaseLayerOptions {
  readonly signal?: AbortSignal | undefined
  /** Make the overlay folder in the same pass, while the tree is in memory. */
  readonly unpack?: boolean
  /** The caller is going to call `sync`. */
  readonly syncEarly?: boolean
  readonly onProgress?: (progress: LayerProgress) => void
}

/** How to get a layer that may stay partial. */
export interface LeaseLazilyOptions extends LeaseLayerOptions {
  /** Undefined: the layer is fetched if it is not here. */
  readonly index: TrustedIndex | undefined
  /** Returns whether the request trusts the index of a layer that is partial already. One that it does not trust is completed first. */
  readonly trusts: (source: LazySource) => boolean
  /** Called if the layer is fetched although it has an index. */
  readonly onEager?: ((why: string) => void) | undefined
}

export interface LayerLeasesOptions {
  readonly paths: StorePaths
  readonly partial: PartialLayers
  readonly isReady: (diffId: DiffId) => boolean
  /** Uses the files of a complete layer, if possible. The caller holds the layer's lock exclusively. */
  readonly makeReady: (diffId: DiffId, signal: AbortSignal | undefined) => Promise<boolean>
  /** Fetches all of a layer. The caller holds the layer's lock exclusively. */
  readonly fetch: (layer: WantedLayer, options: LeaseLayerOptions) => Promise<void>
  readonly get: (diffId: DiffId) => LayerRecord
}

/** One way to lease a layer: who waits for it is told of its progress. */
interface LeaseAttempt {
  readonly layer: WantedLayer
  readonly options: LeaseLayerOptions
  readonly watchers: LayerWatchers
  readonly tell: OnProgress
}

/** Another process has created the layer as a partial one while this one waited for its lock. */
class BecamePartial extends Error {}

/** Gives leases on layers, and fetches the layers, or creates them as partial ones, before. */
export class LayerLeases {
  readonly #options: LayerLeasesOptions
  readonly #watchers = new Map<DiffId, LayerWatchers>()
  readonly #flights = new SingleFlight()
  readonly #lazyFlights = new SingleFlight()

  constructor(options: LayerLeasesOptions) {
    this.#options = options
  }

  /** See `LayerStore.lease`. */
  async lease(layer: WantedLayer, options: LeaseLayerOptions): Promise<FileLock> {
    return this.#watch(layer, options, async (attempt) => {
      const { watchers, tell } = attempt
      const onProgress = (receivedBytes: number, totalBytes: number) => {
        watchers.hasFetched = true
        tell({ state: 'fetching', receivedBytes, totalBytes })
      }
      const waiting = { signal: options.signal, onProgress }
      return this.#whenWhole(layer.diffId, waiting, async (failure) => this.#leaseComplete(attempt, failure))
    })
  }

  /** See `LayerStore.add`: `commit` uses the files of the layer that the caller has made, if they are needed. */
  async leaseMade(
    diffId: DiffId,
    commit: () => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<FileLock> {
    const { isReady, paths } = this.#options
    return this.#whenWhole(diffId, { signal }, async (failure) => {
      const make = async (given: AbortSignal | undefined) => this.#make(diffId, failure, commit, given)
      return leaseOrMake(lockPath(paths, 'layer', diffId), () => isReady(diffId), make, { signal })
    })
  }

  /** Leases a layer after the data of a partial one has come, or after the failure to get it, and again if it becomes partial meanwhile. */
  async #whenWhole(
    diffId: DiffId,
    options: CompleteOptions,
    lease: (failure: LoamError | undefined) => Promise<FileLock>,
  ): Promise<FileLock> {
    for (;;) {
      const failure = await this.#complete(diffId, options)
      try {
        return await lease(failure)
      } catch (error) {
        if (!(error instanceof BecamePartial)) throw error
      }
    }
  }

  /** Brings in a layer that is not here, or whose data does not come. The caller holds the layer's lock exclusively. */
  async #make(
    diffId: DiffId,
    failure: LoamError | undefined,
    bring: () => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { partial, makeReady } = this.#options
    if (await makeReady(diffId, signal)) return
    if (failure === undefined && partial.find(diffId) !== undefined) throw new BecamePartial()
    try {
      await bring()
    } catch (error) {
      // It is in use: why its data does not come says more than that it cannot be replaced.
      throw isLoamError(error, 'LAYER_DAMAGED') ? (failure ?? error) : error
    }
  }

  async #leaseComplete(
    { layer, options, watchers, tell }: LeaseAttempt,
    failure: LoamError | undefined,
  ): Promise<FileLock> {
    const { isReady, fetch, paths } = this.#options
    const { diffId } = layer
    const make = async (signal: AbortSignal | undefined) => {
      const bring = async () => {
        watchers.hasFetched = true
        await fetch(layer, { ...options, signal, onProgress: tell })
      }
      await this.#make(diffId, failure, bring, signal)
    }
    const onWait = (holderPid: number | undefined) => {
      tell({ state: 'waiting', holderPid })
    }
    return leaseOrMake(lockPath(paths, 'layer', diffId), () => isReady(diffId), make, {
      signal: options.signal,
      flights: this.#flights,
      onWait,
    })
  }

  /**
   * Waits for the data of a partial layer, which needs no lock of its own meanwhile: lazy callers go on. Returns the failure if its data does not come: the
   * caller then fetches the layer from its own source. @throws CANCELED, NO_SPACE
   */
  async #complete(diffId: DiffId, options: CompleteOptions): Promise<LoamError | undefined> {
    try {
      await this.#options.partial.complete(diffId, options)
      return undefined
    } catch (error) {
      throwIfAborted(options.signal, `complete layer ${diffId}`)
      // Another source has no more room, and what is here stays.
      if (isLoamError(error, 'NO_SPACE')) throw error
      return toLoamError(error, `complete layer ${diffId}`)
    }
  }

  /** See `LayerStore.leaseLazily`. */
  async leaseLazily(layer: WantedLayer, options: LeaseLazilyOptions): Promise<FileLock> {
    const isTrusted = () => {
      const source = this.#options.partial.sourceOf(layer.diffId)
      return source === undefined || options.trusts(source)
    }
    if (isTrusted()) {
      const lease = await this.#leaseLazily(layer, options)
      if (isTrusted()) return lease
      // Another request has created it meanwhile.
      lease.release()
    }
    // Once it is verified, its tree is what the image says.
    return this.lease({ lazyIndex: options.index?.bytes, ...layer }, options)
  }

  async #leaseLazily(layer: WantedLayer, options: LeaseLazilyOptions): Promise<FileLock> {
    const { partial, isReady, makeReady, fetch, paths } = this.#options
    const { diffId } = layer
    return this.#watch(layer, options, async ({ watchers, tell }) => {
      const make = async (signal: AbortSignal | undefined) => {
        if (await makeReady(diffId, signal)) return
        if (await partial.makeReady(diffId, signal, options.index)) return
        if (await this.#create(layer, options, signal)) return
        watchers.hasFetched = true
        const lazyIndex = options.index?.bytes
        await fetch({ lazyIndex, ...layer }, { ...options, signal, onProgress: tell })
      }
      const isThere = () => isReady(diffId) || partial.find(diffId) !== undefined
      const onWait = (holderPid: number | undefined) => {
        tell({ state: 'waiting', holderPid })
      }
      return leaseOrMake(lockPath(paths, 'layer', diffId), isThere, make, {
        signal: options.signal,
        flights: this.#lazyFlights,
        onWait,
      })
    })
  }

  /** Returns false if the layer has to be fetched: its index may be invalid, or the handler unable to serve it. */
  async #create(
    layer: WantedLayer,
    { index, onEager }: LeaseLazilyOptions,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { partial } = this.#options
    if (index === undefined || !partial.mayCreate(layer.diffId)) return false
    try {
      await partial.create(layer, index, signal)
      return true
    } catch (error) {
      throwIfAborted(signal, `pull layer ${layer.diffId}`)
      onEager?.(toLoamError(error, `pull layer ${layer.diffId} lazily`).message)
      return false
    }
  }

  /** Calls `lease` among those who wait for a layer, and tells its caller how it ended. */
  async #watch(
    layer: WantedLayer,
    options: LeaseLayerOptions,
    lease: (attempt: LeaseAttempt) => Promise<FileLock>,
  ): Promise<FileLock> {
    const { diffId } = layer
    const watchers = this.#watchers.get(diffId) ?? { all: new Set(), hasFetched: false }
    this.#watchers.set(diffId, watchers)
    const watcher = (progress: LayerProgress) => options.onProgress?.(progress)
    watchers.all.add(watcher)
    const tell = (progress: LayerProgress) => {
      for (const one of watchers.all) one(progress)
    }
    try {
      const leased = await lease({ layer, options, watchers, tell })
      watcher(this.#resultOf(diffId, watchers))
      return leased
    } finally {
      watchers.all.delete(watcher)
      if (watchers.all.size === 0 && this.#watchers.get(diffId) === watchers) this.#watchers.delete(diffId)
    }
  }

  #resultOf(diffId: DiffId, { hasFetched }: LayerWatchers): LayerProgress {
    const { data, tarBytes, summary } = this.#options.get(diffId)
    if (data === 'partial') return { state: 'lazy', totalBytes: tarBytes }
    return hasFetched ? { state: 'done', leftOutXattrs: summary.leftOutXattrs } : { state: 'exists' }
  }
}
