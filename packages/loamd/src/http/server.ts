import type { IncomingMessage, RequestListener, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { getRequestListener } from '@hono/node-server'
import { LoamError } from 'loamfs'
import { withRequest } from 'loamfs/internal'
import type { DoorServer, StopOptions } from '../doors.ts'
import { PageDoor } from '../page/page-door.ts'
import { readRequestContext, REQUEST_ID } from '../request-context.ts'
import {
  CHECK_INTERVAL_MS,
  HEADERS_TIMEOUT_MS,
  IDLE_TIMEOUT_MS,
  MAX_CONNECTIONS,
  MAX_HEADER_BYTES,
} from './limits.ts'
import type { ApiServices } from './operation-handler.ts'
import { HttpError, PROBLEM_TYPE, toProblem } from './problem.ts'
import { EventStreams } from './event-streams.ts'
import { createRoutes, problemResponse } from './routes.ts'

const { createServer, STATUS_CODES } = process.getBuiltinModule('node:http')

/** Protocol of `Upgrade:` for command lines. */
const COMMAND_PROTOCOL = 'loam-command'
const COMMAND_PATH = '/v1/command'
/** In place of the host of each request, which means nothing here: the socket decides. The page has checked its own. */
const HOST = 'loamd'
/** Interval at which a server that stops looks for connections that have become idle. */
const STOP_PAUSE_MS = 50

/** A connection that asked for `Upgrade: loam-command` on `POST /v1/command`; nothing has been answered yet. */
export interface CommandConnection {
  readonly request: IncomingMessage
  /** Owned by the handler from now on: it answers 101 or an error, and closes it. */
  readonly socket: Socket
  /** Bytes that the client sent after its headers. */
  readonly head: Buffer
}

export interface HttpServerOptions extends Omit<ApiServices, 'page'> {
  /** Serves command lines. */
  readonly onCommand: (connection: CommandConnection) => void
}

/** Creates the API's server. It has no listener: connections come by `accept`. */
export function createHttpServer({ onCommand, ...services }: HttpServerOptions): DoorServer {
  const sockets = new Set<Socket>()
  let isStopping = false
  const events = new EventStreams(services.activity)
  const { loam, log } = services
  const page = new PageDoor({
    log,
    port: loam.store.configuration.values.ui_port,
    answer: (request, response) => {
      answer(request, response)
    },
  })
  const routes = createRoutes({ ...services, page }, events)
  const handle = getRequestListener(routes.fetch, {
    overrideGlobalObjects: false,
    errorHandler: refuseTarget,
  })
  const answer: RequestListener = (request, response) => {
    const context = readRequestContext((name) => request.headers[name])
    response.setHeader(REQUEST_ID, context.requestId)
    request.headers.host = HOST
    request.url = targetOf(request.url)
    const giveUp = (error: unknown) => {
      log.error('answer a request', { error: String(error) })
      response.destroy()
    }
    withRequest(context, () => void handle(request, response).catch(giveUp))
  }
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      // Each kind of body has a limit of its own: an archive takes as long as it comes.
      requestTimeout: 0,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
      shouldUpgradeCallback: isForCommand,
      requireHostHeader: false,
    },
    (request, response) => {
      // Its client opens the next connection, to the daemon that has taken over.
      if (isStopping) response.shouldKeepAlive = false
      answer(request, response)
    },
  )
  // What is not known is not expected to be done.
  server.on('checkExpectation', answer)
  server.on('connect', refuseTunnel)
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    upgrade({ request, socket, head }, onCommand)
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    withNewRequest(() => {
      log.debug('bad request', { error: error.message })
      refuseBytes(error, socket)
    })
  })
  // It checks timeouts only of connections that it accepted since it began to listen.
  server.emit('listening')
  return {
    accept: (socket) => {
      if (sockets.size >= MAX_CONNECTIONS) {
        const error = new LoamError('STORE_BUSY', `connect: ${MAX_CONNECTIONS} clients are connected`)
        withNewRequest(() => {
          refuse(socket, error)
        })
        return
      }
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      server.emit('connection', socket)
    },
    stop: async (options) => {
      isStopping = true
      events.close()
      await page.close()
      await stop(server, sockets, options)
    },
  }
}

/** Returns the path and the query of what a request asks for; a client that takes this server for a proxy sends a whole URL. */
function targetOf(url = '/'): string {
  const target = url.replace(/^https?:\/\/[^/?#]*/i, '')
  return target.startsWith('/') ? target : `/${target}`
}

/** Acts for a request that names no id of its own. */
function withNewRequest(act: () => void): void {
  withRequest(
    readRequestContext(() => undefined),
    act,
  )
}

/** Answers a request whose path is none. */
function refuseTarget(error: unknown): Response {
  return problemResponse(
    new HttpError(400, `read the request: ${error instanceof Error ? error.message : String(error)}`),
  )
}

/** Answers CONNECT, which Node would not answer. */
function refuseTunnel({ url, headers }: IncomingMessage, socket: Duplex): void {
  withRequest(
    readRequestContext((name) => headers[name]),
    () => {
      refuse(socket, new HttpError(405, `CONNECT ${url}: this is no proxy`))
    },
  )
}

/** Any other `Upgrade:` is ignored, as HTTP allows. */
function isForCommand({ method, url, headers }: IncomingMessage): boolean {
  return method === 'POST' && url === COMMAND_PATH && headers.upgrade === COMMAND_PROTOCOL
}

function upgrade(connection: CommandConnection, onCommand: HttpServerOptions['onCommand']): void {
  const { socket } = connection
  socket.on('error', () => {
    socket.destroy()
  })
  onCommand(connection)
}

/** Answers bytes that are not a request, if the client can still read an answer. */
function refuseBytes(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW'
  const late = error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
  const text = tooLarge
    ? `more than ${MAX_HEADER_BYTES} bytes of headers`
    : late
      ? 'it took too long'
      : 'not HTTP/1.1'
  refuse(socket, new HttpError(tooLarge ? 431 : late ? 408 : 400, `read the request: ${text}`))
}

/** Answers an error on a bare connection, and closes it. */
function refuse(socket: Duplex, error: LoamError): void {
  const problem = toProblem(error)
  const body = JSON.stringify(problem)
  const { requestId } = problem
  // A client that has disconnected is not an error of the daemon.
  socket.on('error', () => socket.destroy())
  socket.end(
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? problem.title}\r\n` +
      `content-type: ${PROBLEM_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `${requestId === undefined ? '' : `${REQUEST_ID}: ${requestId}\r\n`}connection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  )
}

async function stop(
  server: Server,
  sockets: ReadonlySet<Socket>,
  { limitMs, lingerMs }: StopOptions,
): Promise<void> {
  const startMs = performance.now()
  const passedMs = () => performance.now() - startMs
  while (sockets.size > 0 && passedMs() < limitMs) {
    if (passedMs() >= lingerMs) server.closeIdleConnections()
    await sleep(STOP_PAUSE_MS)
  }
  // Its listener belongs to another server; this stops the checks of timeouts.
  server.close(() => undefined)
  for (const socket of sockets) socket.destroy()
}
