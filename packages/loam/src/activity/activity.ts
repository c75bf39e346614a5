import type { ActivityEvent, Attributes, EventFields } from './events.ts'
import { describeFailure } from './failure.ts'
import type { OperationName } from './operations.ts'
import { currentRequest, withRequest } from './request-context.ts'
import { traced } from './trace.ts'
import type { TracedSpan, Tracer } from './tracer.ts'

/**
 * Gets all events, in the asynchronous context of the operation's caller: an AsyncLocalStorage of the caller is in force. It must be quick and
 * must not throw.
 */
export type ActivityObserver = (event: ActivityEvent) => void

/** An operation in progress, for the code that does it. */
export interface Span {
  /** Whether there are observers. Work that only observers need is not done otherwise. */
  readonly isObserved: boolean
  /** Adds attributes to those of the end event. */
  readonly set: (attributes: Attributes) => void
  /** Reports progress. */
  readonly progress: (progress: object) => void
  /** Begins a part of the operation. It ends with the operation at the latest. */
  readonly begin: (operation: string, attributes: Attributes) => SpanPart
}

/** A part of an operation in progress. */
export interface SpanPart extends Span {
  /** Ends the part. */
  readonly end: (attributes?: Attributes, error?: unknown) => void
}

const nothing = () => undefined
const UNOBSERVED: SpanPart = {
  isObserved: false,
  set: nothing,
  progress: nothing,
  begin: () => UNOBSERVED,
  end: nothing,
}

/** The operations on one store, for its observers: metrics, traces and streams of events alike. Costs nothing without observers. */
export class Activity {
  readonly #observers = new Set<ActivityObserver>()
  #tracer: Tracer | undefined
  #lastId = 0

  /** Sends an observer all events from now on, until the returned function is called. */
  subscribe(observer: ActivityObserver): () => void {
    // A function of its own, so that an observer that subscribes twice gets each event twice.
    const tell: ActivityObserver = (event) => {
      observer(event)
    }
    this.#observers.add(tell)
    return () => {
      this.#observers.delete(tell)
    }
  }

  /** @internal Lets spans be made of operations and their parts from now on. */
  traceBy(tracer: Tracer): void {
    this.#tracer = tracer
  }

  /** @internal Runs something as a span of a trace. It is not an operation, so other observers do not see it. */
  async trace<Result>(name: string, attributes: Attributes, act: () => Promise<Result>): Promise<Result> {
    const tracer = this.#tracer
    return tracer === undefined ? act() : withRequest({ tracer }, async () => traced(name, attributes, act))
  }

  /** @internal Runs an operation, and sends events of its start, its end and its failure. */
  async observe<Result>(
    operation: OperationName,
    attributes: Attributes,
    act: (span: Span) => Promise<Result>,
  ): Promise<Result> {
    const tracer = this.#tracer
    if (this.#observers.size === 0 && tracer === undefined) return act(UNOBSERVED)
    const { requestId, trace: parent } = currentRequest()
    const trace = tracer?.begin(operation, attributes, parent)
    const span = this.#begin({ parentId: undefined, requestId, operation }, attributes, trace)
    try {
      const result =
        trace === undefined
          ? await act(span)
          : await withRequest({ tracer, trace: trace.context }, async () => act(span))
      span.end()
      return result
    } catch (error) {
      span.end({}, error)
      throw error
    }
  }

  #begin(of: Omit<EventFields, 'id' | 'timeMs'>, attributes: Attributes, trace?: TracedSpan): SpanPart {
    this.#lastId += 1
    const { operation, requestId } = of
    const fields = { id: this.#lastId, ...of }
    const startMs = performance.now()
    const parts = new Set<SpanPart>()
    let all = attributes
    let isOver = false
    const set = (more: Attributes) => {
      all = { ...all, ...more }
    }
    this.#tell({ ...fields, kind: 'start', timeMs: Date.now(), attributes })
    return {
      isObserved: true,
      set,
      progress: (progress) => {
        if (!isOver) this.#tell({ ...fields, kind: 'progress', timeMs: Date.now(), progress })
      },
      begin: (name, about) => {
        const part = this.#begin({ parentId: fields.id, requestId, operation: name }, about)
        parts.add(part)
        return part
      },
      end: (more = {}, failure) => {
        if (isOver) return
        isOver = true
        for (const part of parts) part.end({}, failure)
        set(more)
        const durationMs = performance.now() - startMs
        const error = failure === undefined ? undefined : describeFailure(failure, operation)
        trace?.end(all, error)
        this.#tell({ ...fields, kind: 'end', timeMs: Date.now(), attributes: all, durationMs, error })
      },
    }
  }

  #tell(event: ActivityEvent): void {
    for (const observer of this.#observers) observer(event)
  }
}
