import type * as v from 'valibot'

/** The schema of a request, an object: its entries are the fields of a query or of the body. */
export type RequestSchema<Request = unknown> = v.GenericSchema<unknown, Request> & {
  readonly entries: v.ObjectEntries
}

/** One operation of the API: everything that its server, its client, its description and its documents need to know. */
export interface Operation<Request = unknown, Result = unknown, Event = unknown> {
  /** GET and DELETE take the request from the query, POST from a body of JSON. */
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  /** One line for the description. */
  readonly summary: string
  readonly request: RequestSchema<Request>
  readonly result: v.GenericSchema<unknown, Result>
  /** Events during the operation; undefined for an operation without events. */
  readonly event?: v.GenericSchema<unknown, Event>
  /** Returns whether identical requests at the same time are answered by one run. Undefined: no. */
  readonly isShared?: (request: Request) => boolean
}

/** An operation that answers with a stream of bytes. */
export interface Download<Request = unknown, Result = unknown>
  extends Pick<Operation<Request>, 'path' | 'summary' | 'request'> {
  readonly method: 'GET'
  /** Media type of the stream. */
  readonly mediaType: string
  /** Result, in the trailer `RESULT_TRAILER` behind the stream. Undefined: none. */
  readonly result?: v.GenericSchema<unknown, Result>
}

/** Name of the trailer with the result of a stream: JSON, encoded as a part of a URI. */
export const RESULT_TRAILER = 'loam-result'

/** An operation that takes a stream of bytes as its body, and the request from the query. */
export interface Upload<Request = unknown, Result = unknown, Event = unknown>
  extends Omit<Operation<Request, Result, Event>, 'method' | 'isShared'> {
  readonly method: 'PUT'
}

/**
 * An operation in which its client has a part. The body is lines of JSON: the request, and later the reply to what the daemon asks for by an event.
 * The answer is lines, too.
 */
export interface Conversation<Request = unknown, Result = unknown, Event = unknown, Reply = unknown>
  extends Omit<Operation<Request, Result, Event>, 'method' | 'isShared'> {
  readonly method: 'POST'
  readonly reply: v.GenericSchema<unknown, Reply>
}

/** Defines an operation. */
export function operation<Request, Result, Event = never>(
  definition: Operation<Request, Result, Event>,
): Operation<Request, Result, Event> {
  return definition
}

/** Defines an operation that answers with a stream. */
export function download<Request, Result = undefined>(
  definition: Download<Request, Result>,
): Download<Request, Result> {
  return definition
}

/** Defines an operation that takes a stream. */
export function upload<Request, Result, Event = never>(
  definition: Upload<Request, Result, Event>,
): Upload<Request, Result, Event> {
  return definition
}

/** Defines an operation in which its client has a part. */
export function conversation<Request, Result, Event, Reply>(
  definition: Conversation<Request, Result, Event, Reply>,
): Conversation<Request, Result, Event, Reply> {
  return definition
}

/** The request of an operation, as its server gets it. */
export type RequestOf<Definition> = Definition extends { readonly request: RequestSchema<infer Request> }
  ? Request
  : never
/** The result of an operation. */
export type ResultOf<Definition> = Definition extends {
  readonly result?: v.GenericSchema<unknown, infer Result>
}
  ? Result
  : never
/** The events of an operation. */
export type EventOf<Definition> = Definition extends {
  readonly event?: v.GenericSchema<unknown, infer Event>
}
  ? Event
  : never
/** What the client of an operation replies. */
export type ReplyOf<Definition> = Definition extends {
  readonly reply: v.GenericSchema<unknown, infer Reply>
}
  ? Reply
  : never
