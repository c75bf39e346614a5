import { setTimeout as sleep } from 'node:timers/promises'
import type { Activity } from 'loamfs'
import { traceBy } from 'loamfs/internal'
import type { Log } from '../log.ts'

/** How long a daemon that stops waits for a collector to take its last spans. */
const FLUSH_LIMIT_MS = 1_000

type Environment = Readonly<Record<string, string | undefined>>

/** Nothing is traced. */
const OFF: AsyncDisposable = { [Symbol.asyncDispose]: async () => undefined }

/** Returns whether the environment names a collector for traces, as OpenTelemetry defines it. */
export function isTracingWanted(env: Environment): boolean {
  const isDisabled = env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true'
  const exporter = env['OTEL_TRACES_EXPORTER'] ?? 'otlp'
  const endpoint = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] ?? env['OTEL_EXPORTER_OTLP_ENDPOINT'] ?? ''
  return !isDisabled && exporter === 'otlp' && endpoint !== ''
}

/**
 * Exports spans of the operations on a store if the environment names a collector. Without one nothing is loaded. A collector that is slow or away
 * delays no operation: spans wait in a bounded queue, and those beyond it are dropped.
 */
export async function startTracing(activity: Activity, env: Environment, log: Log): Promise<AsyncDisposable> {
  if (!isTracingWanted(env)) return OFF
  const { createExporter } = await import('./exporter.ts')
  const { tracer, shutdown } = createExporter(env, (error) => {
    log.warn('export traces', { error })
  })
  traceBy(activity, tracer)
  return {
    [Symbol.asyncDispose]: async () => {
      await Promise.race([shutdown(), sleep(FLUSH_LIMIT_MS, undefined, { ref: false })])
    },
  }
}
