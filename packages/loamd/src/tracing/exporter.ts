// Loaded only where a collector is configured.
import {
  type Context,
  createTraceState,
  isSpanContextValid,
  ROOT_CONTEXT,
  SpanKind,
  type SpanContext,
  SpanStatusCode,
  trace,
  TraceFlags,
} from '@opentelemetry/api'
import { parseTraceParent, setGlobalErrorHandler } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import {
  defaultResource,
  detectResources,
  envDetector,
  hostDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { TraceContext, Tracer } from 'loamfs/internal'
import { readVersion } from '../version.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** A collector that is away is away for a while: not each batch is worth a line of the log. */
const REPORT_INTERVAL_MS = 60_000
/** Spans that wait for the collector, some 1 KiB each. */
const MAX_WAITING_SPANS = 2048

export interface Exporter {
  readonly tracer: Tracer
  /** Sends the waiting spans, and ends. */
  readonly shutdown: () => Promise<void>
}

/** Creates a tracer whose spans go to the collector that the environment names, by OTLP over HTTP. */
export function createExporter(env: Environment, onError: (error: string) => void): Exporter {
  setGlobalErrorHandler(limited(onError))
  const own = resourceFromAttributes({ 'service.name': 'loamd', 'service.version': readVersion() })
  const detected = detectResources({ detectors: [hostDetector, envDetector] })
  const provider = new TracerProvider({
    resource: defaultResource().merge(own).merge(detected),
    sampler: samplerOf(env),
    spanProcessors: [
      new BatchSpanProcessor({ exporter: new OTLPTraceExporter(), maxQueueSize: MAX_WAITING_SPANS }),
    ],
  })
  const spans = provider.getTracer('loam', readVersion())
  const tracer: Tracer = {
    begin: (name, attributes, parent) => {
      const kind = parent === undefined || parent.isRemote ? SpanKind.SERVER : SpanKind.INTERNAL
      const span = spans.startSpan(name, { attributes: named(attributes), kind }, contextOf(parent))
      return {
        context: headersOf(span.spanContext()),
        end: (result, error) => {
          span.setAttributes(named(result))
          if (error !== undefined) {
            span.setAttribute('error.type', error.code)
            span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
          }
          span.end()
        },
      }
    },
  }
  return { tracer, shutdown: async () => provider.shutdown().catch(() => undefined) }
}

/** Names of attributes are Loam's own. */
function named(attributes: Readonly<Record<string, string | number | boolean | undefined>>) {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`loam.${name}`, value]))
}

function contextOf(parent: TraceContext | undefined): Context {
  const context = parent === undefined ? null : parseTraceParent(parent.parent)
  if (parent === undefined || context === null || !isSpanContextValid(context)) return ROOT_CONTEXT
  const { state } = parent
  return trace.setSpanContext(ROOT_CONTEXT, {
    ...context,
    isRemote: parent.isRemote,
    ...(state === undefined ? {} : { traceState: createTraceState(state) }),
  })
}

function headersOf({ traceId, spanId, traceFlags, traceState }: SpanContext): TraceContext {
  const flags = (traceFlags & TraceFlags.SAMPLED).toString(16).padStart(2, '0')
  return { parent: `00-${traceId}-${spanId}-${flags}`, state: traceState?.serialize(), isRemote: false }
}

/** https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration */
function samplerOf(env: Environment): Sampler {
  const ratio = Number(env['OTEL_TRACES_SAMPLER_ARG'] ?? 1)
  const byRatio = new TraceIdRatioBasedSampler(ratio >= 0 && ratio <= 1 ? ratio : 1)
  const [always, never] = [new AlwaysOnSampler(), new AlwaysOffSampler()]
  const samplers: Readonly<Record<string, Sampler>> = {
    always_on: always,
    always_off: never,
    traceidratio: byRatio,
    parentbased_always_off: new ParentBasedSampler({ root: never }),
    parentbased_traceidratio: new ParentBasedSampler({ root: byRatio }),
  }
  return samplers[env['OTEL_TRACES_SAMPLER'] ?? ''] ?? new ParentBasedSampler({ root: always })
}

function limited(onError: (error: string) => void): (error: unknown) => void {
  let lastMs = -REPORT_INTERVAL_MS
  return (error) => {
    const nowMs = performance.now()
    if (nowMs - lastMs < REPORT_INTERVAL_MS) return
    lastMs = nowMs
    onError(error instanceof Error ? error.message : String(error))
  }
}
