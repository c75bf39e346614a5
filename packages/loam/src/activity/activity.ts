import { type ErrorCode, type ErrorKind, toLoamError } from '../errors/index.ts'

/** The subject and the result of an operation: names, digests, numbers. Never credentials. */
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>

/** Fields of every event. */
interface EventFields {
  /** Id of the operation within this process. */
  readonly id: number
  /** Id of the operation that it is a part of; undefined for none. */
  readonly parentId: number | undefined
  /** Name of the operation: `images.pull`, or of a part of one: `layer`. */
  readonly operation: string
  /** Milliseconds since 1970. */
  readonly timeMs: number
}

/** The start of an operation. */
export interface StartEvent extends EventFields {
  /** Distinguishes this event from others. */
  readonly kind: 'start'
  /** The subject of the operation. */
  readonly attributes: Attributes
}

/** Progress of an operation. */
export interface ProgressEvent extends EventFields {
  /** Distinguishes this event from others. */
  readonly kind: 'progress'
  /** The event that the caller of the operation gets: of a pull, a push or a check. */
  readonly progress: object
}

/** The end of an operation. */
export interface EndEvent extends EventFields {
  /** Distinguishes this event from others. */
  readonly kind: 'end'
  /** The subject and the result of the operation. */
  readonly attributes: Attributes
  /** Its duration. */
  readonly durationMs: number
  /** Its failure; undefined if it succeeded. */
  readonly error: OperationError | undefined
}

/** The failure of an operation. */
export interface OperationError {
  /** Code of the error. */
  readonly code: ErrorCode
  /** Kind of the error. */
  readonly kind: ErrorKind
  /** Message of the error. */
  readonly message: string
}

/** An event of an operation on a store. */
export type ActivityEvent = StartEvent | ProgressEvent | EndEvent

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

  /** @internal Runs an operation, and sends events of its start, its end and its failure. */
  async observe<Result>(
    operation: string,
    attributes: Attributes,
    act: (span: Span) => Promise<Result>,
  ): Promise<Result> {
    if (this.#observers.size === 0) return act(UNOBSERVED)
    const span = this.#begin(operation, undefined, attributes)
    try {
      const result = await act(span)
      span.end()
      return result
    } catch (error) {
      span.end({}, error)
      throw error
    }
  }

  #begin(operation: string, parentId: number | undefined, attributes: Attributes): SpanPart {
    this.#lastId += 1
    const fields = { id: this.#lastId, parentId, operation }
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
      begin: (name, of) => {
        const part = this.#begin(name, fields.id, of)
        parts.add(part)
        return part
      },
      end: (more = {}, failure) => {
        if (isOver) return
        isOver = true
        for (const part of parts) part.end({}, failure)
        set(more)
        const durationMs = performance.now() - startMs
        const error = failure === undefined ? undefined : describe(failure, operation)
        this.#tell({ ...fields, kind: 'end', timeMs: Date.now(), attributes: all, durationMs, error })
      },
    }
  }

  #tell(event: ActivityEvent): void {
    for (const observer of this.#observers) observer(event)
  }
}

function describe(failure: unknown, operation: string): OperationError {
  const { code, kind, message } = toLoamError(failure, operation)
  return { code, kind, message }
}
