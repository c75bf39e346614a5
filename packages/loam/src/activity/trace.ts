import type { Attributes } from './events.ts'
import { describeFailure } from './failure.ts'
import { currentRequest, withRequest } from './request-context.ts'
import type { TraceContext, TracedSpan } from './tracer.ts'

/** https://www.w3.org/TR/trace-context/#traceparent-header */
const PARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/
const STATE = /^[ -~]{1,512}$/

/** Reads the trace context of a caller; undefined for none, and for one that is not valid. */
export function readTraceContext(parent: unknown, state: unknown): TraceContext | undefined {
  if (typeof parent !== 'string' || !PARENT.test(parent)) return undefined
  return { parent, state: typeof state === 'string' && STATE.test(state) ? state : undefined, isRemote: true }
}

/** Returns the headers that tell a server which span its work is a part of; none where nobody traces, since a caller's context is for no stranger. */
export function traceHeaders(): Readonly<Record<string, string>> {
  const { tracer, trace } = currentRequest()
  if (tracer === undefined || trace === undefined) return {}
  return {
    traceparent: trace.parent,
    ...(trace.state === undefined ? {} : { tracestate: trace.state }),
  }
}

/** Runs a part of an operation as a span of its trace. Costs nothing if tracing is off. */
export async function traced<Result>(
  name: string,
  attributes: Attributes,
  act: () => Promise<Result>,
): Promise<Result> {
  const span = beginSpan(name, attributes)
  if (span === undefined) return act()
  try {
    const result = await withRequest({ trace: span.context }, act)
    span.end({}, undefined)
    return result
  } catch (error) {
    span.end({}, describeFailure(error, name))
    throw error
  }
}

/** The same for a stream: the span ends with it. */
export function tracedStream<Item>(
  name: string,
  attributes: Attributes,
  open: () => AsyncIterable<Item>,
): AsyncIterable<Item> {
  const span = beginSpan(name, attributes)
  if (span === undefined) return open()
  const within = <Result>(act: () => Result) => withRequest({ trace: span.context }, act)
  const step = async (act: () => Promise<IteratorResult<Item>>) => {
    try {
      const result = await within(act)
      if (result.done === true) span.end({}, undefined)
      return result
    } catch (error) {
      span.end({}, describeFailure(error, name))
      throw error
    }
  }
  return {
    [Symbol.asyncIterator]: () => {
      const items = within(() => open()[Symbol.asyncIterator]())
      return {
        next: async () => step(async () => items.next()),
        return: async () => step(async () => (await items.return?.()) ?? { done: true, value: undefined }),
      }
    },
  }
}

function beginSpan(name: string, attributes: Attributes): TracedSpan | undefined {
  const { tracer, trace } = currentRequest()
  return tracer?.begin(name, attributes, trace)
}
