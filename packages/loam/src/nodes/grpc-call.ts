// One gRPC call over HTTP/2, as a command makes it: without the client library, which loads for a tenth of a second.
import { connect, type ClientHttp2Stream, constants } from 'node:http2'
import { connect as connectSocket } from 'node:net'

const TIMEOUT_MS = 10_000
const MAX_MESSAGE_BYTES = 16 << 20
/** One byte that says whether the message is compressed, and four of its length. */
const HEADER_BYTES = 5

/** Calls a method with one request and one response at a unix socket. @throws Error with a sentence as its message, and system errors */
export async function callGrpc(socket: string, method: string, request: Uint8Array): Promise<Uint8Array> {
  const session = connect('http://localhost', { createConnection: () => connectSocket(socket) })
  const failed = Promise.withResolvers<never>()
  session.once('error', failed.reject)
  const limit = setTimeout(() => {
    failed.reject(new Error(`no answer within ${TIMEOUT_MS / 1000} s`))
  }, TIMEOUT_MS)
  try {
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: method,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
      [constants.HTTP2_HEADER_TE]: 'trailers',
    })
    const header = Buffer.alloc(HEADER_BYTES)
    header.writeUInt32BE(request.length, 1)
    stream.end(Buffer.concat([header, request]))
    return await Promise.race([readMessage(stream), failed.promise])
  } finally {
    clearTimeout(limit)
    // A session that fails later has no listener of its own any more.
    session.on('error', () => undefined)
    session.destroy()
  }
}

async function readMessage(stream: ClientHttp2Stream): Promise<Uint8Array> {
  let status: string | undefined
  let message = ''
  const readStatus = (headers: Readonly<Record<string, string | string[] | number | undefined>>) => {
    status = headers['grpc-status'] === undefined ? status : String(headers['grpc-status'])
    message = String(headers['grpc-message'] ?? message)
  }
  stream.on('response', readStatus)
  stream.on('trailers', readStatus)
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stream) {
    const part = Buffer.from(chunk as Buffer)
    bytes += part.length
    if (bytes > MAX_MESSAGE_BYTES) throw new Error('the answer is too large')
    chunks.push(part)
  }
  if (status === undefined) throw new Error('the answer is not one of gRPC')
  if (status !== '0') throw new Error(`status ${status}: ${message}`)
  return Buffer.concat(chunks).subarray(HEADER_BYTES)
}
