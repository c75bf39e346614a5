import { Histogram, type Registry } from 'prom-client'

/** What another process has counted: the number of observations of each bucket and of those above, and their sum. */
export interface ToldCounts {
  readonly counts: readonly number[]
  readonly sum: number
}

interface Options {
  readonly name: string
  readonly help: string
  readonly buckets: readonly number[]
  readonly registry: Registry
}

/** A histogram whose observations were made by another process, which tells their counts. */
export class ToldHistogram extends Histogram {
  readonly #options: Options
  #told: ToldCounts = { counts: [], sum: 0 }

  constructor(options: Options) {
    const { name, help, buckets, registry } = options
    super({ name, help, buckets: [...buckets], registers: [registry] })
    this.#options = options
  }

  /** Replaces what was told before. */
  set(told: ToldCounts): void {
    this.#told = told
  }

  override async get(): ReturnType<Histogram['get']> {
    return this.getForPromString()
  }

  /** What the registry asks for: each bucket counts those below it, too. */
  async getForPromString(): ReturnType<Histogram['get']> {
    const { name, help, buckets } = this.#options
    const { counts, sum } = this.#told
    let below = 0
    const values = [...buckets, '+Inf'].map((le, index) => {
      below += counts[index] ?? 0
      return { metricName: `${name}_bucket`, labels: { le }, value: below }
    })
    const totals = [
      { metricName: `${name}_sum`, labels: {}, value: sum },
      { metricName: `${name}_count`, labels: {}, value: below },
    ]
    const told = { name, help, type: 'histogram', values: [...values, ...totals], aggregator: 'sum' }
    return Promise.resolve(told as unknown as Awaited<ReturnType<Histogram['get']>>)
  }
}
