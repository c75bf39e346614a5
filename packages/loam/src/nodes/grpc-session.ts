// gRPC over HTTP/2 at a unix socket, as a command needs it: without a client library, which loads for a tenth of a second.
import { once } from 'node:events'
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2'
import { connect as connectSocket } from 'node:net'

const MAX_MESSAGE_BYTES = 16 << 20
/** One byte that says whether the message is compressed, and four of its length. */
const HEADER_BYTES = 5

/** Metadata of a call, and its end. */
export interface GrpcOptions {
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly signal?: AbortSignal | undefined
}

/** The answer of a call that failed. */
export class GrpcError extends Error {
  override readonly name = 'GrpcError'
  /** A number of google.golang.org/grpc/codes. */
  readonly status: number
  /** The text of the server. */
  readonly details: string

  constructor(status: number, details: string) {
    super(`status ${status}: ${details}`)
    this.status = status
    this.details = details
  }
}

/** A connection to a server. Calls may be made at once. They fail with GrpcError, system errors, and the reason of the signal. */
export class GrpcSession implements Disposable {
  readonly #session: ClientHttp2Session
  #failure: Error | undefined

  constructor(socket: string) {
    this.#session = connect('http://localhost', { createConnection: () => connectSocket(socket) })
    this.#session.on('error', (error: Error) => {
      this.#failure ??= error
    })
  }

  /** Calls a method with one request and one response. */
  async call(method: string, request: Uint8Array, options: GrpcOptions = {}): Promise<Uint8Array> {
    using call = this.open(method, options)
    call.end(request)
    let response: Uint8Array | undefined
    for await (const message of call.messages()) response = message
    if (response === undefined) throw new Error('the answer has no message')
    return response
  }

  /** Opens a call whose requests or responses are a stream. Disposing of it cancels it. */
  open(method: string, { headers = {}, signal }: GrpcOptions = {}): GrpcStream {
    signal?.throwIfAborted()
    if (this.#failure !== undefined) throw this.#failure
    const stream = this.#session.request({
      ...headers,
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: method,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
      [constants.HTTP2_HEADER_TE]: 'trailers',
    })
    return new GrpcStream(stream, { signal, failure: () => this.#failure })
  }

  [Symbol.dispose](): void {
    this.#session.destroy()
  }
}

interface StreamOptions {
  readonly signal: AbortSignal | undefined
  /** The error of the connection. */
  readonly failure: () => Error | undefined
}

/** One call. */
export class GrpcStream implements Disposable {
  readonly #stream: ClientHttp2Stream
  readonly #options: StreamOptions
  readonly #cancel = () => {
    this.#stream.close(constants.NGHTTP2_CANCEL)
  }
  #status: string | undefined
  #details = ''

  constructor(stream: ClientHttp2Stream, options: StreamOptions) {
    this.#stream = stream
    this.#options = options
    options.signal?.addEventListener('abort', this.#cancel)
    const readStatus = (headers: Readonly<Record<string, string | string[] | number | undefined>>) => {
      if (headers['grpc-status'] !== undefined) this.#status = String(headers['grpc-status'])
      this.#details = String(headers['grpc-message'] ?? this.#details)
    }
    stream.on('response', readStatus)
    stream.on('trailers', readStatus)
    // Its errors reach those who read it; without a listener an early one would end the process.
    stream.on('error', () => undefined)
  }

  /** Sends a message, and waits while the server is behind. */
  async send(message: Uint8Array): Promise<void> {
    if (!this.#stream.write(framed(message)) && !this.#stream.destroyed)
      await Promise.race([once(this.#stream, 'drain'), once(this.#stream, 'close')])
  }

  /** Sends the last message, if there is one. */
  end(message?: Uint8Array): void {
    this.#stream.end(message === undefined ? undefined : framed(message))
  }

  /** Yields the responses, and throws if the call has failed. */
  async *messages(): AsyncGenerator<Uint8Array> {
    const { signal, failure } = this.#options
    try {
      yield* readMessages(this.#stream)
    } catch (error) {
      signal?.throwIfAborted()
      throw failure() ?? error
    }
    signal?.throwIfAborted()
    if (this.#status === undefined) throw failure() ?? new Error('the answer is not one of gRPC')
    if (this.#status !== '0') throw new GrpcError(Number(this.#status), decodeDetails(this.#details))
  }

  [Symbol.dispose](): void {
    this.#options.signal?.removeEventListener('abort', this.#cancel)
    this.#cancel()
  }
}

function framed(message: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32BE(message.length, 1)
  return Buffer.concat([header, message])
}

async function* readMessages(stream: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  let chunks: Buffer[] = []
  let bytes = 0
  let wanted = HEADER_BYTES
  for await (const chunk of stream) {
    chunks.push(Buffer.from(chunk as Buffer))
    bytes += chunks.at(-1)?.length ?? 0
    while (bytes >= wanted) {
      const held = Buffer.concat(chunks)
      wanted = HEADER_BYTES + held.readUInt32BE(1)
      if (wanted > MAX_MESSAGE_BYTES) throw new Error('the answer is too large')
      chunks = [held]
      if (bytes < wanted) break
      yield held.subarray(HEADER_BYTES, wanted)
      chunks = [held.subarray(wanted)]
      bytes -= wanted
      wanted = HEADER_BYTES
    }
  }
}

/** gRPC encodes the text of a status as in an address. */
function decodeDetails(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
