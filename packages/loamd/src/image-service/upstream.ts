import { type ClientHttp2Session, connect } from 'node:http2'
import { connect as connectSocket } from 'node:net'

/** A connection to a server of gRPC at a unix socket. It is made when it is first needed, and again after it has ended. */
export class Upstream implements Disposable {
  readonly #socket: string
  #session: ClientHttp2Session | undefined

  constructor(socket: string) {
    this.#socket = socket
  }

  get session(): ClientHttp2Session {
    const known = this.#session
    if (known !== undefined && !known.closed && !known.destroyed) return known
    const session = connect('http://localhost', { createConnection: () => connectSocket(this.#socket) })
    // Each of its requests has the error, too.
    session.on('error', () => undefined)
    this.#session = session
    return session
  }

  [Symbol.dispose](): void {
    this.#session?.destroy()
  }
}
