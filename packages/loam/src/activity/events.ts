import type { ErrorCode, ErrorKind } from '../errors/index.ts'

/** The subject and the result of an operation: names, digests, numbers. Never credentials. */
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>

/** Fields of every event. */
export interface EventFields {
  /** Id of the operation within this process. */
  readonly id: number
  /** Id of the operation that it is a part of; undefined for none. */
  readonly parentId: number | undefined
  /** Id of the request that caused it; undefined if no request did. */
  readonly requestId: string | undefined
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
