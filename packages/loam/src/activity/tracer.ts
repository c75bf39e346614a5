import type { Attributes, OperationError } from './events.ts'

/** A span of a trace, as the W3C's headers name it. */
export interface TraceContext {
  /** Value of `traceparent`. */
  readonly parent: string
  /** Value of `tracestate`; undefined for none. */
  readonly state: string | undefined
  /** Whether the span is of another process. */
  readonly isRemote: boolean
}

/** Makes spans of what is done. It must be quick and must not throw. */
export interface Tracer {
  /** Begins a span, as a part of another one or as the first of a trace. */
  readonly begin: (name: string, attributes: Attributes, parent: TraceContext | undefined) => TracedSpan
}

/** A span that has not ended. */
export interface TracedSpan {
  /** Names the span for those who work on parts of it. */
  readonly context: TraceContext
  /** Ends the span, with what came of it. */
  readonly end: (attributes: Attributes, error: OperationError | undefined) => void
}
