import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError, type Loam } from 'loamfs'
import { MAX_TIMER_MS } from 'loamfs/internal'
import type { Log } from './log.ts'

export interface ImageCollectionOptions {
  /** The open store. */
  readonly loam: Loam
  readonly log: Log
}

/** How often the budget of layers is looked at, without `image_gc_config`. */
const BUDGET_INTERVAL_MS = 60_000

/** Collects images at once and at the interval of `image_gc_config`, as a Mesos agent does, until it is disposed. Does nothing without that setting and `disk_budget`. */
export class ImageCollection implements AsyncDisposable {
  readonly #stop = new AbortController()
  readonly #running: Promise<void>

  constructor({ loam, log }: ImageCollectionOptions) {
    this.#running = collectUntil(this.#stop.signal, loam, log)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#running
  }
}

async function collectUntil(signal: AbortSignal, loam: Loam, log: Log): Promise<void> {
  const { image_gc_config: config, disk_budget: budget } = loam.store.configuration.values
  const intervalMs = config?.intervalMs ?? (budget === undefined ? undefined : BUDGET_INTERVAL_MS)
  if (intervalMs === undefined) return
  while (!signal.aborted) {
    await collect(loam, log)
    await sleep(Math.min(intervalMs, MAX_TIMER_MS), undefined, { signal, ref: false }).catch(() => undefined)
  }
}

/** A collection that fails is tried again at the next interval. */
async function collect(loam: Loam, log: Log): Promise<void> {
  try {
    const { images, evicted, wantedBytes, freedBytes, reasons } = await loam.images.collect()
    const counts = { images: images.length, evictedLayers: evicted.length }
    const fields = { ...counts, wantedBytes, freedBytes, reasons: reasons.join('; ') }
    if (freedBytes < wantedBytes)
      log.warn('collected less than image_gc_config or disk_budget requires', fields)
    else if (images.length + evicted.length > 0) log.info('collected images', fields)
    else log.debug('collected images', fields)
  } catch (error) {
    log.error('collect images', {
      error: error instanceof Error ? error.message : String(error),
      hint: isLoamError(error) ? error.hint : undefined,
    })
  }
}
