import {
  type ClientHttp2Stream,
  constants,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2'

const { HTTP2_HEADER_STATUS, HTTP2_HEADER_CONTENT_TYPE, NGHTTP2_CANCEL, NGHTTP2_FLAG_END_STREAM } = constants

/** Passes the answer to a call on as it is: headers, messages and trailers. Cancels either side when the other one ends early. */
export function passAnswerOn(answer: ClientHttp2Stream, caller: ServerHttp2Stream): void {
  const trailers = Promise.withResolvers<OutgoingHttpHeaders>()
  answer.once('response', (headers, flags) => {
    if (isOver(caller)) return
    if ((flags & NGHTTP2_FLAG_END_STREAM) !== 0) {
      caller.respond(headers, { endStream: true })
      return
    }
    caller.respond(headers, { waitForTrailers: true })
    answer.pipe(caller)
  })
  answer.once('trailers', trailers.resolve)
  caller.once('wantTrailers', () => {
    const send = async () => {
      const last = await trailers.promise
      if (!isOver(caller)) caller.sendTrailers(last)
    }
    send().catch(() => {
      caller.close(constants.NGHTTP2_INTERNAL_ERROR)
    })
  })
  answer.once('error', (error) => {
    refuse(caller, error.message)
  })
  answer.once('close', () => {
    // Node reports no error for streams of a connection that ends.
    if (!caller.headersSent) refuse(caller, 'the connection has ended')
    else if (answer.rstCode !== 0 && !isOver(caller)) caller.close(answer.rstCode)
    trailers.resolve({})
  })
  caller.once('close', () => {
    if (!answer.destroyed) answer.close(NGHTTP2_CANCEL)
  })
}

/** A stream that is closed takes nothing more, also before it is destroyed. */
function isOver(stream: ServerHttp2Stream): boolean {
  return stream.destroyed || stream.closed
}

/** Statuses of gRPC. */
const UNIMPLEMENTED = 12
const UNAVAILABLE = 14

/** Answers that containerd cannot be reached, unless an answer has begun: then the call is reset. */
export function refuse(caller: ServerHttp2Stream, reason: string): void {
  fail(caller, UNAVAILABLE, `containerd does not answer: ${reason}`)
}

/** Answers that there is no such method. */
export function refuseUnknown(caller: ServerHttp2Stream, method: string): void {
  fail(caller, UNIMPLEMENTED, `unknown method ${method}`)
}

function fail(caller: ServerHttp2Stream, status: number, message: string): void {
  if (isOver(caller)) return
  if (caller.headersSent) {
    caller.close(constants.NGHTTP2_INTERNAL_ERROR)
    return
  }
  const headers = {
    [HTTP2_HEADER_STATUS]: 200,
    [HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
    'grpc-status': String(status),
    'grpc-message': encodeURIComponent(message),
  }
  caller.respond(headers, { endStream: true })
}
