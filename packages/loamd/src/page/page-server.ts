import { randomBytes } from 'node:crypto'
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { LoamError } from 'loamfs'
import { isErrno, type OperationName, OPERATIONS, SUBSCRIPTIONS } from 'loamfs/internal'
import { HEADERS_TIMEOUT_MS, IDLE_TIMEOUT_MS, MAX_HEADER_BYTES, REQUEST_TIMEOUT_MS } from '../http/limits.ts'
import { HttpError, PROBLEM_TYPE, toProblem } from '../http/problem.ts'
import type { PageFiles } from './page-files.ts'
import { checkHost, checkOrigin, checkToken } from './request-guard.ts'

/** The operations that the page needs besides events, and no others: none that pulls, writes files or runs a program. */
export const PAGE_OPERATIONS = [
  'daemon.version',
  'store.usage',
  'store.doctor',
  'store.partialLayers',
  'images.list',
  'images.inspect',
  'images.contents',
  'images.history',
  'images.layers',
  'images.diff',
  'images.remove',
  'images.prune',
  'containers.list',
] as const satisfies readonly OperationName[]

const HOST = '127.0.0.1'
const TOKEN_BYTES = 32
/** Other users of this machine can connect, too, and must not use up the descriptors of the daemon. */
const MAX_CONNECTIONS = 64

const HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  // Another program may have this port later.
  'cache-control': 'no-store',
}

export interface PageServerOptions {
  readonly files: PageFiles
  /** Undefined: any free port. */
  readonly port: number | undefined
  /** Answers a request of the API. */
  readonly answer: RequestListener
}

/** The page at a port of the loopback interface, for clients with the token of its address. */
export class PageServer implements Disposable {
  readonly #server: Server
  readonly #token = randomBytes(TOKEN_BYTES).toString('base64url')
  readonly #options: PageServerOptions

  private constructor(options: PageServerOptions) {
    this.#options = options
    this.#server = process.getBuiltinModule('node:http').createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: HEADERS_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: IDLE_TIMEOUT_MS,
        // A request for a WebSocket is a request like any other, and is refused as such.
        shouldUpgradeCallback: () => false,
        // The check of the host answers by a problem document.
        requireHostHeader: false,
      },
      (request, response) => {
        this.#answer(request, response)
      },
    )
    this.#server.maxConnections = MAX_CONNECTIONS
  }

  /** Listens. @throws STORE_BUSY for a port that another program has */
  static async start(options: PageServerOptions): Promise<PageServer> {
    const page = new PageServer(options)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    page.#server.once('error', reject)
    page.#server.listen({ host: HOST, port: options.port ?? 0 }, resolve)
    try {
      await promise
    } catch (error) {
      if (!isErrno(error, 'EADDRINUSE', 'EACCES')) throw error
      throw new LoamError('STORE_BUSY', `listen on ${HOST}:${options.port}: another program does`, {
        cause: error,
        hint: 'Choose another ui_port, or none: then any free port is taken.',
      })
    }
    return page
  }

  /** The port that it listens on. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** The address with the token. The token is in the fragment, which no browser sends. */
  get address(): string {
    return `http://${HOST}:${this.port}/#access=${this.#token}`
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value)
    try {
      checkHost(request)
      const { pathname } = new URL(request.url ?? '/', `http://${HOST}`)
      if (!pathname.startsWith('/v1/')) {
        this.#sendFile(pathname, request, response)
        return
      }
      checkOrigin(request)
      checkToken(request.headers, this.#token)
      checkOperation(request.method, pathname)
      this.#options.answer(request, response)
    } catch (error) {
      refuse(response, error)
    }
  }

  #sendFile(path: string, { method }: IncomingMessage, response: ServerResponse): void {
    const file = this.#options.files.get(path)
    if (file === undefined) throw new HttpError(404, `${method} ${path}: the page has no such file`)
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD')
      throw new HttpError(405, `${method} ${path}: this path takes GET and HEAD`)
    }
    response.writeHead(200, { 'content-type': file.type, 'content-length': file.bytes.length })
    response.end(method === 'HEAD' ? undefined : file.bytes)
  }

  /** Ends: no client can connect, connections are closed, and the token becomes invalid. */
  [Symbol.dispose](): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

function checkOperation(method: string | undefined, path: string): void {
  const known = [...PAGE_OPERATIONS.map((name) => OPERATIONS[name]), SUBSCRIPTIONS['daemon.events']]
  const isKnown = known.some((each) => each.method === method && each.path === path)
  if (!isKnown) throw new HttpError(404, `${method} ${path}: the page has no such operation`)
}

function refuse(response: ServerResponse, error: unknown): void {
  const problem = toProblem(error)
  const body = Buffer.from(JSON.stringify(problem))
  if (problem.status === 401) response.setHeader('www-authenticate', 'Bearer')
  // The rest of the request is not read.
  response.writeHead(problem.status, {
    'content-type': PROBLEM_TYPE,
    'content-length': body.length,
    connection: 'close',
  })
  response.end(body)
}
