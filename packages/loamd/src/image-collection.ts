import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError, type Loam } from 'loamfs'
import type { Log } from './log.ts'

/** The longest time that a timer of Node can wait. */
const MAX_TIMER_MS = 2 ** 31 - 1

export interface ImageCollectionOptions {
  /** Returns the store with the settings in force. */
  readonly loam: () => Loam
  readonly log: Log
}

/** Collects images at the interval of `image_gc_config`, as a Mesos agent does, until it is disposed. Does nothing without that setting. */
export class ImageCollection implements AsyncDisposable {
  readonly #options: ImageCollectionOptions
  #stop = new AbortController()
  #running: Promise<void> = Promise.resolve()

  constructor(options: ImageCollectionOptions) {
    this.#options = options
    this.restart()
  }

  /** Starts again, with the settings that are in force now: collects once, and then at each interval. */
  restart(): void {
    this.#stop.abort()
    this.#stop = new AbortController()
    this.#running = Promise.all([this.#running, this.#run(this.#stop.signal)]).then(() => undefined)
  }

  async #run(signal: AbortSignal): Promise<void> {
    const loam = this.#options.loam()
    const intervalMs = loam.store.configuration.values.image_gc_config?.intervalMs
    if (intervalMs === undefined) return
    while (!signal.aborted) {
      await collect(loam, this.#options.log)
      await sleep(Math.min(intervalMs, MAX_TIMER_MS), undefined, { signal, ref: false }).catch(
        () => undefined,
      )
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#running
  }
}

/** A collection that fails is tried again at the next interval. */
async function collect(loam: Loam, log: Log): Promise<void> {
  try {
    const { images, wantedBytes, freedBytes, reasons } = await loam.images.collect()
    const fields = { images: images.length, wantedBytes, freedBytes, reasons: reasons.join('; ') }
    if (freedBytes < wantedBytes) log.warn('collected less than image_gc_config requires', fields)
    else if (images.length > 0) log.info('collected images', fields)
    else log.debug('collected images', fields)
  } catch (error) {
    log.error('collect images', {
      error: error instanceof Error ? error.message : String(error),
      hint: isLoamError(error) ? error.hint : undefined,
    })
  }
}
