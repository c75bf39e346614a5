import type { ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import { LoamError } from 'loamfs'
import { isForThisMachine } from '../page/request-guard.ts'
import type { Metrics } from './metrics.ts'
import type { StoreFigures } from './store-figures.ts'

const PATH = '/metrics'
const TIMEOUT_MS = 10_000
const MAX_CONNECTIONS = 16

/** The metrics in Prometheus's format. */
export class Exposition {
  readonly #metrics: Metrics
  readonly #figures: StoreFigures

  constructor(metrics: Metrics, figures: StoreFigures) {
    this.#metrics = metrics
    this.#figures = figures
  }

  /** Returns the media type and the text of the figures. */
  async read(): Promise<{ readonly type: string; readonly text: string }> {
    this.#figures.refresh()
    const { registry } = this.#metrics
    return { type: registry.contentType, text: await registry.metrics() }
  }
}

/**
 * Serves the figures, and nothing else, at a port of the loopback interface. Each user of this machine can read them: they name no image and no
 * container. @throws CONFIG_INVALID for another address, and system errors
 */
export async function serveMetrics(address: string, exposition: Exposition): Promise<AsyncDisposable> {
  const { host, port } = parseAddress(address)
  const server = process
    .getBuiltinModule('node:http')
    .createServer({ requestTimeout: TIMEOUT_MS, headersTimeout: TIMEOUT_MS }, (request, response) => {
      if (!isForThisMachine(request)) {
        response.writeHead(403).end()
        return
      }
      const isAsked = request.method === 'GET' && request.url?.split('?')[0] === PATH
      if (isAsked) void answer(response, exposition)
      else response.writeHead(404).end()
    })
  server.maxConnections = MAX_CONNECTIONS
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  // A daemon that takes over listens while the one before it still does.
  server.listen({ port, host, reusePort: true }, resolve)
  await promise
  server.unref()
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = Promise.withResolvers<void>()
      server.close(() => {
        closed.resolve()
      })
      server.closeAllConnections()
      await closed.promise
    },
  }
}

async function answer(response: ServerResponse, exposition: Exposition): Promise<void> {
  try {
    const { type, text } = await exposition.read()
    response.writeHead(200, { 'content-type': type }).end(text)
  } catch {
    response.writeHead(500).end()
  }
}

function parseAddress(address: string): { readonly host: string; readonly port: number } {
  const { host = '', port = '' } = /^\[?(?<host>[^\]]+)\]?:(?<port>\d{1,5})$/.exec(address)?.groups ?? {}
  const isLoopback = host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
  if (isLoopback && Number(port) <= 65_535) return { host, port: Number(port) }
  throw new LoamError(
    'CONFIG_INVALID',
    `metrics_address: ${JSON.stringify(address)} is not a port of the loopback interface`,
    {
      hint: 'Set it to 127.0.0.1:9464, for example. A proxy that authenticates its clients may pass it on.',
    },
  )
}
