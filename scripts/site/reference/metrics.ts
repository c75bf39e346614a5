import type { Loam } from '../../../packages/loam/src/index.ts'
import { Log } from '../../../packages/loamd/src/log.ts'
import { Metrics } from '../../../packages/loamd/src/metrics/metrics.ts'
import { StoreFigures } from '../../../packages/loamd/src/metrics/store-figures.ts'
import { code, table } from '../markdown.ts'
import type { Reference } from '../page.ts'
import { singlePage } from './single-page.ts'

interface Described {
  readonly name: string
  readonly help: string
  readonly type: unknown
}

/** Returns the page of all metrics, from the registry of the daemon. */
export function metricsPage(): Reference {
  const { registry } = new Metrics()
  // Nothing is counted here, so that no store is needed.
  const loam = {} as Loam
  void new StoreFigures({ loam, log: new Log('error'), registry })
  const all = registry.getMetricsAsArray() as unknown as Described[]
  const isOwn = ({ name }: Described) => name.startsWith('loam_')
  const rows = (metrics: readonly Described[]) =>
    metrics
      .toSorted((a, b) => a.name.localeCompare(b.name))
      .map((metric) => [code(metric.name), String(metric.type), labelsOf(metric), metric.help])
  return singlePage(
    'metrics',
    'Metrics',
    '`GET /metrics` of `loamd` answers in the format of Prometheus. [Running loamd](../operations.md#metrics) says how to read it.',
    table(['Metric', 'Type', 'Labels', 'Meaning'], rows(all.filter(isOwn))),
    '## The process',
    table(['Metric', 'Type', 'Labels', 'Meaning'], rows(all.filter((metric) => !isOwn(metric)))),
  )
}

function labelsOf(metric: object): string {
  const { labelNames } = metric as { readonly labelNames?: readonly string[] }
  return (labelNames ?? []).map(code).join(', ')
}
