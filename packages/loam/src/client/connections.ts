import type { Agent, ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { isErrno } from '../errors/index.ts'
import { canceled, closed, lost, unavailable } from './failure.ts'

/** A result may be in a trailer. */
const MAX_HEADER_BYTES = 1 << 20

/** A request as it is sent. */
export interface Sent {
  /** Name of the operation. */
  readonly name: string
  readonly options: Pick<RequestOptions, 'method' | 'path' | 'headers'>
  /** Sends the body, or none, and ends the request. */
  readonly end: (asked: ClientRequest) => void
  readonly signal: AbortSignal | undefined
}

/** The connections to a daemon, which stay open for further requests. */
export class Connections {
  readonly #socket: string
  readonly #http = process.getBuiltinModule('node:http')
  readonly #agent = new this.#http.Agent({ keepAlive: true, maxFreeSockets: 16 })
  readonly #closed = new AbortController()

  constructor(socket: string) {
    this.#socket = socket
  }

  /** Whether the connections are closed for good. */
  get closed(): AbortSignal {
    return this.#closed.signal
  }

  /** Sends a request, and returns the answer, of which only the head has come. @throws DAEMON_UNAVAILABLE, DAEMON_LOST, CANCELED, USAGE once they are closed */
  async send(sent: Sent): Promise<IncomingMessage> {
    if (this.#closed.signal.aborted) throw closed(sent.name)
    await this.#dropEnded()
    return this.#ask(sent, this.#agent)
  }

  /** Closes all connections, which cancels calls in progress. */
  close(): void {
    this.#closed.abort()
    this.#agent.destroy()
  }

  async #ask({ name, options, end, signal }: Sent, agent: Agent | false): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const stop = AbortSignal.any([this.#closed.signal, ...(signal === undefined ? [] : [signal])])
    let isAnswered = false
    const asked = this.#http.request(
      { ...options, socketPath: this.#socket, agent, signal: stop, maxHeaderSize: MAX_HEADER_BYTES },
      (response) => {
        isAnswered = true
        resolve(response)
      },
    )
    asked.on('error', (error) => {
      // The daemon had closed the connection, or did so meanwhile. What only reads may be asked twice.
      const isStale = asked.reusedSocket && !isAnswered && isErrno(error, 'ECONNRESET', 'EPIPE')
      if (isStale && options.method === 'GET') resolve(this.#ask({ name, options, end, signal }, false))
      else reject(stop.aborted ? canceled(name, stop) : unavailable(name, this.#socket, error))
    })
    // A request whose body fails closes without an error.
    asked.on('close', () => {
      reject(lost(name, this.#socket))
    })
    end(asked)
    return promise
  }

  /** Closes idle connections that the daemon has closed, also while this process did something else: a request on one would be lost. */
  async #dropEnded(): Promise<void> {
    const idle = () => Object.values(this.#agent.freeSockets).flatMap((sockets = []) => sockets)
    if (idle().length === 0) return
    // The first turn of the event loop may have looked for their ends already; the second one looks again.
    await nextTurn()
    await nextTurn()
    for (const socket of idle()) {
      if (!socket.readableEnded && socket.readyState === 'open') continue
      socket.emit('agentRemove')
      socket.destroy()
    }
  }
}
