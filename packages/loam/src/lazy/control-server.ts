import { createServer, type Server, type Socket } from 'node:net'
import { chmodSync } from 'node:fs'
import { toLoamError } from '../errors/index.ts'
import { unlinkIfThere } from '../linux/index.ts'
import {
  type LazyAnswer,
  type LazyRequest,
  MAX_LINE_BYTES,
  parseLazyRequest,
  splitLines,
} from './protocol.ts'

/** Answers one request: returns the last answer. */
export type AnswerRequest = (
  request: LazyRequest,
  options: { readonly signal: AbortSignal; readonly send: (answer: LazyAnswer) => void },
) => Promise<LazyAnswer>

/** The socket of the handler. Its directory is for its owner alone. */
export class ControlServer {
  readonly #server: Server
  readonly #answer: AnswerRequest
  readonly #onIdle: () => void
  #open = 0

  private constructor(server: Server, answer: AnswerRequest, onIdle: () => void) {
    this.#server = server
    this.#answer = answer
    this.#onIdle = onIdle
  }

  /** Listens in place of a handler that has ended. @throws system errors */
  static async listen(path: string, answer: AnswerRequest, onIdle: () => void): Promise<ControlServer> {
    unlinkIfThere(path)
    const server = createServer()
    const control = new ControlServer(server, answer, onIdle)
    server.on('connection', (socket) => void control.#serve(socket))
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    server.once('error', reject)
    server.listen(path, resolve)
    await promise
    chmodSync(path, 0o600)
    return control
  }

  /** Whether no request is in progress. */
  get isIdle(): boolean {
    return this.#open === 0
  }

  /** Takes no more requests. */
  close(): void {
    this.#server.close()
  }

  async #serve(socket: Socket): Promise<void> {
    let isAsked = false
    const left = new AbortController()
    socket.once('close', () => {
      left.abort()
    })
    socket.on('error', () => undefined)
    const send = (answer: LazyAnswer) => {
      if (!socket.destroyed) socket.write(`${JSON.stringify(answer)}\n`)
    }
    try {
      const line = await readLine(socket)
      if (line === undefined) return
      // A connection without a request, such as a look whether somebody listens, is nothing to wait for.
      isAsked = true
      this.#open += 1
      send(await this.#answer(parseLazyRequest(line), { signal: left.signal, send }))
    } catch (error) {
      const { code, message } = toLoamError(error, 'answer a request')
      send({ kind: 'failed', code, message })
    } finally {
      socket.end()
      if (isAsked) this.#open -= 1
      this.#onIdle()
    }
  }
}

/** Returns the first line; undefined if there is none. */
async function readLine(socket: Socket): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  let text = ''
  socket.setEncoding('utf8')
  socket.on('data', (chunk) => {
    text += String(chunk)
    const [line] = splitLines(text).lines
    if (line !== undefined) resolve(line)
    else if (text.length > MAX_LINE_BYTES) resolve(undefined)
  })
  socket.once('close', () => {
    resolve(undefined)
  })
  socket.once('end', () => {
    resolve(undefined)
  })
  return promise
}
