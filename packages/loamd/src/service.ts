import type { DescMethod, DescService, MessageShape } from '@bufbuild/protobuf'
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import type { Activity, ErrorKind } from 'loamfs'
import { toLoamError, traceCall, withRequest } from 'loamfs/internal'
import type { Log } from './log.ts'
import { decode, encode } from './messages.ts'
import { readRequestContext, REQUEST_ID } from './request-context.ts'

/** Both have the same names. */
const CODES: Readonly<Record<ErrorKind, status>> = {
  invalid_argument: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  already_exists: status.ALREADY_EXISTS,
  permission_denied: status.PERMISSION_DENIED,
  unauthenticated: status.UNAUTHENTICATED,
  failed_precondition: status.FAILED_PRECONDITION,
  aborted: status.ABORTED,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
  data_loss: status.DATA_LOSS,
  unimplemented: status.UNIMPLEMENTED,
  canceled: status.CANCELLED,
  internal: status.INTERNAL,
}

/** Errors that clients expect in normal operation, such as a missing snapshot. */
const EXPECTED: readonly status[] = [status.NOT_FOUND, status.ALREADY_EXISTS]

/** Returns the code and the text that a client gets for an error of a call. It is all that an operator sees of it in the events of a pod: what to do is part of it. */
export function toStatus(error: unknown, call: string): { code: status; details: string } {
  // A full disk has its own status, whichever operation meets it.
  const { kind, message, hint } = toLoamError(error, call)
  return { code: CODES[kind], details: hint === undefined ? message : `${message}. ${hint}` }
}

/** The definition of a service for grpc-js, from that of protobuf-es. */
export function defineService(service: DescService): ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: false,
        responseStream: method.methodKind === 'server_streaming',
        requestSerialize: encode(method.input),
        requestDeserialize: decode(method.input),
        responseSerialize: encode(method.output),
        responseDeserialize: decode(method.output),
      },
    ]),
  )
}

/** Log and metrics of calls. */
export interface CallObserver {
  readonly log: Log
  /** Traces of calls. */
  readonly activity: Activity
  /** Counts a call that ended, by the name of its status. */
  readonly count: (method: string, status: string, durationMs: number) => void
}

/** The client's side of a call. */
export interface CallContext {
  /** Metadata that the client sent. */
  readonly metadata: Metadata
  /** Fires when the client has canceled the call, or is gone. */
  readonly signal: AbortSignal
}

type Unary<Method extends DescMethod> = (
  request: MessageShape<Method['input']>,
  context: CallContext,
) => MessageShape<Method['output']> | Promise<MessageShape<Method['output']>>

/** Creates the handler of a call with one response. */
export function unary<Method extends DescMethod>(
  method: Method,
  { log, count, activity }: CallObserver,
  act: Unary<Method>,
): UntypedServiceImplementation[string] {
  const handle: handleUnaryCall<MessageShape<Method['input']>, MessageShape<Method['output']>> = (
    call,
    answer,
  ) => {
    const { request, metadata } = call
    const canceled = new AbortController()
    call.once('cancelled', () => {
      canceled.abort()
    })
    const context = { metadata, signal: canceled.signal }
    const startMs = performance.now()
    const fields = () => ({ key: keyOf(request), durationMs: performance.now() - startMs })
    const respond = async () => {
      try {
        const span = { name: `grpc.${method.name}`, attributes: { key: keyOf(request) } }
        const response = await traceCall(activity, span, async () => act(request, context))
        log.debug(method.name, fields())
        count(method.name, status[status.OK], performance.now() - startMs)
        answer(null, response)
      } catch (error) {
        const failure = toStatus(error, method.name)
        tell(log, method.name, fields(), failure)
        count(method.name, status[failure.code], performance.now() - startMs)
        answer(failure)
      }
    }
    void within(call, respond)
  }
  return handle
}

/** Does what a call asks for as a request with an id, which its client gets. */
function within<Result>(
  call: Pick<ServerUnaryCall<unknown, unknown>, 'metadata' | 'sendMetadata'>,
  act: () => Result,
): Result {
  const context = readRequestContext((name) => call.metadata.get(name)[0])
  const answered = new Metadata()
  answered.set(REQUEST_ID, context.requestId)
  call.sendMetadata(answered)
  return withRequest(context, act)
}

/** Creates the handler of a call with many responses; it waits for a client that reads slowly, and stops when the client disconnects. */
export function streaming<Method extends DescMethod>(
  method: Method,
  { log, count }: CallObserver,
  act: (request: MessageShape<Method['input']>) => AsyncIterable<MessageShape<Method['output']>>,
): UntypedServiceImplementation[string] {
  const handle: handleServerStreamingCall<MessageShape<Method['input']>, MessageShape<Method['output']>> = (
    call,
  ) => {
    const startMs = performance.now()
    const respond = async () => {
      let code = status.OK
      try {
        await send(call, act)
      } catch (error) {
        const failure = toStatus(error, method.name)
        code = failure.code
        tell(log, method.name, {}, failure)
        call.emit('error', failure)
      }
      count(method.name, status[code], performance.now() - startMs)
    }
    void within(call, respond)
  }
  return handle
}

async function send<Request, Response>(
  call: ServerWritableStream<Request, Response>,
  act: (request: Request) => AsyncIterable<Response>,
): Promise<void> {
  for await (const response of act(call.request)) {
    if (call.cancelled) return
    if (call.write(response)) continue
    const { promise, resolve } = Promise.withResolvers<void>()
    call.once('drain', resolve)
    call.once('cancelled', resolve)
    await promise
  }
  call.end()
}

function tell(
  log: Log,
  method: string,
  fields: Readonly<Record<string, string | number | undefined>>,
  { code, details }: { code: status; details: string },
): void {
  const all = { ...fields, status: status[code], error: details }
  if (EXPECTED.includes(code)) log.debug(method, all)
  else if (code === status.INTERNAL) log.error(method, all)
  else log.warn(method, all)
}

function keyOf(request: object): string | undefined {
  return 'key' in request && typeof request.key === 'string' ? request.key : undefined
}
