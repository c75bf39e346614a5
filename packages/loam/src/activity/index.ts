export { countBytes, readCounts, setTotalBytes, SHARED_BYTES } from './byte-count.ts'
export { Activity, type ActivityObserver, type Span, type SpanPart } from './activity.ts'
export type {
  ActivityEvent,
  Attributes,
  EndEvent,
  OperationError,
  ProgressEvent,
  StartEvent,
} from './events.ts'
export { fitsOperation, meansOperation, OPERATION_NAMES, type OperationName } from './operations.ts'
export { currentRequest, type RequestContext, requestIdOf, withRequest } from './request-context.ts'
export { readTraceContext, traced, tracedStream, traceHeaders } from './trace.ts'
export type { TraceContext, TracedSpan, Tracer } from './tracer.ts'
