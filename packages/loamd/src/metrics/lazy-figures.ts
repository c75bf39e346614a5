import { Counter, type Gauge, type Registry } from 'prom-client'
import type { Loam } from 'loamfs'
import { lazyStatusOf, WAIT_BOUNDS } from 'loamfs/internal'
import { createGauge } from './gauge.ts'
import { ToldHistogram } from './told-histogram.ts'

/** Figures of the process that fills partial layers. It counts from its start, as each process does. */
export class LazyFigures {
  readonly #loam: Loam
  readonly #layers: Gauge
  readonly #missing: Gauge
  readonly #waiting: Gauge
  readonly #starved: Gauge
  readonly #faults: Counter<'result'>
  readonly #bytes: Counter<'reason'>
  readonly #memory: Gauge
  readonly #waits: ToldHistogram

  constructor(loam: Loam, registry: Registry) {
    this.#loam = loam
    const registers = [registry]
    const gauge = (name: string, help: string) => createGauge({ name: `lazy_${name}`, help, registry })
    this.#layers = gauge('layers', 'Partial layers that are being filled.')
    this.#missing = gauge('missing_bytes', 'Bytes of partial layers that are not here.')
    this.#waiting = gauge('reads_waiting', 'Reads that wait for data.')
    this.#starved = gauge('reads_starved', 'Reads that wait for data that does not come.')
    this.#memory = gauge('resident_memory_bytes', 'Memory of the process that fills partial layers.')
    this.#faults = new Counter({
      name: 'loam_lazy_reads_total',
      help: 'Reads of partial layers, by what came of them.',
      labelNames: ['result'],
      registers,
    })
    this.#waits = new ToldHistogram({
      name: 'loam_lazy_read_wait_seconds',
      help: 'How long reads have waited that needed data which was not here.',
      buckets: WAIT_BOUNDS,
      registry,
    })
    this.#bytes = new Counter({
      name: 'loam_lazy_filled_bytes_total',
      help: 'Bytes that were filled, because they were read or ahead of reads.',
      labelNames: ['reason'],
      registers,
    })
  }

  /** Asks the process; without one nothing is partial, or nothing has been read since the start of this daemon. */
  async count(): Promise<void> {
    const status = await lazyStatusOf(this.#loam)
    const layers = status?.layers ?? []
    const sum = (numbers: readonly number[]) => numbers.reduce((all, one) => all + one, 0)
    this.#layers.set(layers.length)
    this.#missing.set(sum(layers.map(({ presentBytes, totalBytes }) => totalBytes - presentBytes)))
    this.#waiting.set(sum(layers.map(({ waiting }) => waiting)))
    this.#starved.set(sum(layers.map(({ waiting, failure }) => (failure === null ? 0 : waiting))))
    this.#memory.set(status?.rssBytes ?? 0)
    if (status === undefined) return
    const { events, misses, refused, failedReads, bytesOnDemand, bytesAhead, waits } = status
    this.#waits.set({ counts: waits.counts, sum: waits.sumSeconds })
    const hits = Math.max(0, events - misses)
    this.#faults.reset()
    for (const [result, reads] of Object.entries({ hit: hits, miss: misses, failed: failedReads + refused }))
      this.#faults.inc({ result }, reads)
    this.#bytes.reset()
    this.#bytes.inc({ reason: 'read' }, bytesOnDemand)
    this.#bytes.inc({ reason: 'ahead' }, bytesAhead)
  }
}
