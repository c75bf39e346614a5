import { AsyncLocalStorage } from 'node:async_hooks'
import type { Tracer, TraceContext } from './tracer.ts'

/** What is known of the request that an operation belongs to. All that is done for it, however deep and however late, finds it here. */
export interface RequestContext {
  /** Names the request in logs, events and errors; undefined for what nobody has asked for. */
  readonly requestId?: string | undefined
  /** The span that work in progress is a part of: of the caller, or of this process. */
  readonly trace?: TraceContext | undefined
  /** Who makes spans of the work; undefined: nobody. */
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
