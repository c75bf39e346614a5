import { readTraceContext, type RequestContext, requestIdOf } from 'loamfs/internal'

/** Header and metadata that name a request, in both directions. */
export const REQUEST_ID = 'x-request-id'

/** Returns what the headers of a request say about it. A request without an id, or with one that is not usable, gets a new one. */
export function readRequestContext(
  header: (name: string) => unknown,
): RequestContext & { readonly requestId: string } {
  return {
    requestId: requestIdOf(header(REQUEST_ID)),
    trace: readTraceContext(header('traceparent'), header('tracestate')),
  }
}
