import { collectDefaultMetrics, Counter, type Gauge, Histogram, Registry } from 'prom-client'
import type { ActivityEvent } from 'loamfs'
import { DENY_OPERATION, LEFT_OPERATION, splitTransport } from 'loamfs/internal'
import { createGauge } from './gauge.ts'
import { readVersion } from '../version.ts'

/** From the second root filesystem of an image to the largest pull. */
const OPERATION_BUCKETS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
]
const PULL_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600]
const GRPC_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 60]

/** Gauges of prom-client that are named as counters. */
const MISNAMED = ['handles', 'requests', 'resources'].map((what) => `nodejs_active_${what}_total`)

/** Label of a success, in place of the code of an error. */
const OK = 'ok'

/** The default of 10 ms wakes an idle process a hundred times a second. */
const LAG_PRECISION_MS = 50

/**
 * The daemon's figures for Prometheus: counters and histograms of what happens, told by the store's activity and by containerd's calls. Labels
 * have few values: operations, codes, kinds of sources; never names of images or containers.
 */
export class Metrics {
  readonly registry = new Registry()
  readonly #operations = this.#counter(
    'operations_total',
    'Operations that ended, by the code of the error.',
    ['operation', 'code'],
  )
  readonly #durations = this.#histogram('operation_duration_seconds', 'Duration of operations.', {
    labels: ['operation'],
    buckets: OPERATION_BUCKETS,
  })
  readonly #inProgress = this.#gauge('operations_in_progress', 'Operations in progress.', ['operation'])
  readonly #pulls = this.#histogram(
    'image_pull_duration_seconds',
    'Duration of pulls, by what came of them.',
    {
      labels: ['source', 'result'],
      buckets: PULL_BUCKETS,
    },
  )
  readonly #fetchedBytes = this.#counter('fetched_bytes_total', 'Bytes of layers that were fetched.', [])
  readonly #layers = this.#counter(
    'layers_total',
    'Layers that operations needed: fetched, shared, or lazy.',
    ['result'],
  )
  readonly #left = this.#counter('layers_left_total', 'Layers that were left to containerd, by the cause.', [
    'cause',
  ])
  readonly #denied = this.#counter(
    'lazy_indexes_denied_total',
    'Lazy indexes that were denied, because their layer was another one than they said.',
    [],
  )
  readonly #freedBytes = this.#counter(
    'collection_freed_bytes_total',
    'Bytes that image collection freed.',
    [],
  )
  readonly #collected = this.#gauge(
    'collection_last_success_timestamp_seconds',
    'Time of the last image collection that succeeded.',
    [],
  )
  readonly #containerErrors = this.#counter(
    'container_remove_errors_total',
    'Containers that could not be removed (Mesos: remove_container_errors).',
    [],
  )
  readonly #rootfsErrors = this.#counter(
    'rootfs_remove_errors_total',
    'Root filesystems that could not be removed (Mesos: remove_rootfs_errors).',
    [],
  )
  readonly #grpc = this.#counter('grpc_requests_total', "Calls of containerd's API, by status.", [
    'method',
    'status',
  ])
  readonly #grpcDurations = this.#histogram(
    'grpc_request_duration_seconds',
    "Duration of containerd's calls.",
    {
      labels: ['method'],
      buckets: GRPC_BUCKETS,
    },
  )

  constructor() {
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: LAG_PRECISION_MS })
    for (const name of MISNAMED) this.registry.removeSingleMetric(name)
    const info = this.#gauge('build_info', 'Version of the daemon and of Node; the value is 1.', [
      'version',
      'node',
    ])
    info.set({ version: readVersion(), node: process.version }, 1)
  }

  /** Counts what happens in the store; for `activity.subscribe`. */
  readonly observe = (event: ActivityEvent): void => {
    const { operation } = event
    if (event.kind === 'start') this.#inProgress.inc({ operation })
    if (event.kind !== 'end') return
    const { attributes, error } = event
    const seconds = event.durationMs / 1000
    this.#inProgress.dec({ operation })
    this.#operations.inc({ operation, code: error?.code ?? OK })
    this.#durations.observe({ operation }, seconds)
    this.#fetchedBytes.inc(operation === 'layer' ? 0 : numberOf(attributes['fetchedBytes']))
    this.#layers.inc({ result: 'fetched' }, numberOf(attributes['layersFetched']))
    this.#layers.inc({ result: 'shared' }, numberOf(attributes['layersShared']))
    this.#layers.inc({ result: 'lazy' }, numberOf(attributes['layersLazy']))
    if (operation === DENY_OPERATION) this.#denied.inc()
    if (operation === LEFT_OPERATION) this.#left.inc({ cause: String(attributes['cause']) })
    if (operation === 'images.pull') {
      const source = sourceOf(String(attributes['image']))
      const isFetched = numberOf(attributes['layersFetched']) > 0
      const result = error !== undefined ? 'failed' : isFetched ? 'fetched' : 'cached'
      this.#pulls.observe({ source, result }, seconds)
    }
    if (operation === 'images.collect' && error === undefined) {
      this.#freedBytes.inc(numberOf(attributes['freedBytes']))
      this.#collected.set(event.timeMs / 1000)
    }
    if (operation === 'containers.destroy' && error !== undefined) {
      this.#containerErrors.inc()
      if (error.code === 'DESTROY_FAILED') this.#rootfsErrors.inc()
    }
  }

  /** Counts a call of containerd. */
  countCall(method: string, status: string, durationMs: number): void {
    this.#grpc.inc({ method, status })
    this.#grpcDurations.observe({ method }, durationMs / 1000)
  }

  #counter<Label extends string>(name: string, help: string, labels: readonly Label[]): Counter<Label> {
    return new Counter({ name: `loam_${name}`, help, labelNames: labels, registers: [this.registry] })
  }

  #gauge<Label extends string>(name: string, help: string, labels: readonly Label[]): Gauge<Label> {
    return createGauge({ name, help, labels, registry: this.registry })
  }

  #histogram<Label extends string>(
    name: string,
    help: string,
    { labels, buckets }: { readonly labels: readonly Label[]; readonly buckets: number[] },
  ): Histogram<Label> {
    return new Histogram({
      name: `loam_${name}`,
      help,
      labelNames: labels,
      buckets,
      registers: [this.registry],
    })
  }
}

function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : 0
}

/** Returns the kind of source that the name of an image refers to. */
function sourceOf(image: string): string {
  const { transport = 'docker' } = splitTransport(image, 'name', 'file') ?? {}
  return transport === 'docker' ? 'registry' : transport
}
