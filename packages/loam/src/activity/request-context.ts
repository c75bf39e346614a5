import { AsyncLocalStorage } from 'node:async_hooks'
import type { Tracer, TraceContext } from './tracer.ts'

/** The request that an operation belongs to, for all work on its behalf, at any depth and at any later time. */
export interface RequestContext {
  /** Id of the request in logs, events and errors; undefined for work without a request. */
  readonly requestId?: string | undefined
  /** The span that work in progress is a part of: of the caller, or of this process. */
  readonly trace?: TraceContext | undefined
  /** Creates spans of the work; undefined: none are created. */
  readonly tracer?: Tracer | undefined
}

const MAX_ID_LENGTH = 128
const contexts = new AsyncLocalStorage<RequestContext>()

/** Returns what is known of the request that the caller works for. */
export function currentRequest(): RequestContext {
  return contexts.getStore() ?? {}
}

/** Does something for a request: what is given replaces what is known. */
export function withRequest<Result>(context: RequestContext, act: () => Result): Result {
  return contexts.run({ ...contexts.getStore(), ...context }, act)
}

/** Returns the id that a client gave to its request if it is short and printable, else a new one. */
export function requestIdOf(given: unknown): string {
  const isUsable = typeof given === 'string' && given.length <= MAX_ID_LENGTH && /^[!-~]+$/.test(given)
  return isUsable ? given : crypto.randomUUID()
}
