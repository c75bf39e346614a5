import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Activity, type Loam, LoamError } from 'loamfs'
import {
  currentRequest,
  type FileRights,
  type Operation,
  type OperationName,
  OPERATIONS,
} from 'loamfs/internal'
import type { Log } from '../log.ts'
import type { Exposition } from '../metrics/exposition.ts'
import { ACTIONS, type Context, type DaemonState, type PageAccess } from '../operations/index.ts'
import { MAX_REQUESTS } from './limits.ts'
import { rightsOfPeer, withRightsOf } from '../command/peer.ts'
import { jsonValue, Lines, LINES_TYPE } from './lines.ts'
import { PROBLEM_TYPE, toProblem } from './problem.ts'
import { readBody, readQuery, refuseBody, refuseQuery } from './request.ts'
import { SharedRuns } from './shared-runs.ts'

/** A request to be answered. */
export interface Exchange {
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  readonly query: URLSearchParams
}

/** The services that requests use. */
export interface ApiServices {
  /** The open store. */
  readonly loam: Loam
  /** Observers of the daemon's stores. */
  readonly activity: Activity
  readonly daemon: DaemonState
  readonly exposition: Exposition
  readonly page: PageAccess
  readonly log: Log
}

/** Answers requests for operations. */
export class OperationHandler {
  readonly #services: ApiServices
  readonly #runs = new SharedRuns()

  constructor(services: ApiServices) {
    this.#services = services
  }

  /** Answers one request: with lines of JSON if its client accepts them, else with the result alone. */
  async answer(name: OperationName, exchange: Exchange): Promise<void> {
    await this.begin(name, exchange, async (signal) => {
      const definition: Operation<object> = OPERATIONS[name] as Operation<object>
      const request = await readRequest(definition, exchange)
      await this.respond(name, exchange, async (onEvent) =>
        this.#run(
          name,
          { definition, request, userId: rightsOf(exchange.incoming)?.userId },
          { signal, onEvent },
        ),
      )
    })
  }

  /** Does work, and answers with its events and its result. @throws what the work throws, for a client that accepts no lines */
  async respond(
    name: string,
    { incoming, outgoing }: Exchange,
    work: (onEvent: (event: unknown) => void) => Promise<unknown>,
  ): Promise<void> {
    if (!accepts(incoming, LINES_TYPE)) {
      answerJson(outgoing, 200, await work(() => undefined))
      return
    }
    const lines = new Lines(outgoing)
    await this.conclude(name, lines, async () =>
      work((event) => {
        lines.event({ event })
      }),
    )
  }

  /** Does work, and ends lines with its result or its error. */
  async conclude(name: string, lines: Lines, work: () => Promise<unknown>): Promise<void> {
    try {
      lines.end({ result: await work() })
    } catch (error) {
      lines.end({ error: this.#note(name, error) })
    }
  }

  /** Gives a request a signal that fires when its client disconnects, a limit, and an answer if it fails. */
  async begin(
    name: string,
    { incoming, outgoing }: Exchange,
    act: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const stop = new AbortController()
    outgoing.once('close', () => {
      if (!outgoing.writableFinished) stop.abort()
    })
    const { loam, log, daemon } = this.#services
    const { requests } = daemon
    const { requestId: id } = currentRequest()
    const startMs = performance.now()
    requests.set(stop, { id, operation: name, startedAtMs: Date.now() })
    try {
      if (requests.size > MAX_REQUESTS) {
        throw new LoamError('STORE_BUSY', `${name}: ${MAX_REQUESTS} requests are in progress`)
      }
      await withRightsOf(rightsOf(incoming), loam, async () => act(stop.signal))
      log.debug(name, { status: outgoing.statusCode, durationMs: performance.now() - startMs })
    } catch (error) {
      const problem = this.#note(name, error)
      if (outgoing.headersSent) outgoing.destroy()
      else answerJson(outgoing, problem.status, problem, PROBLEM_TYPE)
    } finally {
      requests.delete(stop)
    }
  }

  async #run(
    name: OperationName,
    {
      definition,
      request,
      userId,
    }: {
      readonly definition: Operation<object>
      readonly request: object
      readonly userId: number | undefined
    },
    options: Pick<Context<unknown>, 'signal' | 'onEvent'>,
  ): Promise<unknown> {
    // Each request was read by the schema of its own action.
    const act = ACTIONS[name] as (context: Context<unknown>, request: object) => Promise<unknown>
    const work = async (run: typeof options) => act(this.contextOf(run), request)
    if (definition.isShared?.(request) !== true) return work(options)
    // Each user has rights to files of its own.
    return this.#runs.join(`${name} ${userId} ${JSON.stringify(request)}`, options, work)
  }

  /** Adds the context that each operation gets. */
  contextOf<Event>(run: Pick<Context<Event>, 'signal' | 'onEvent'>): Context<Event> {
    const { loam, daemon, page } = this.#services
    return { ...run, loam, daemon, page }
  }

  #note(name: string, error: unknown) {
    const problem = toProblem(error)
    const { status, code, detail } = problem
    this.#services.log[code === 'INTERNAL' ? 'error' : 'debug'](name, { status, code, error: detail })
    return problem
  }
}

/** Clients of the web page have no user. */
function rightsOf({ socket }: IncomingMessage): FileRights | undefined {
  return socket.remoteAddress === undefined ? rightsOfPeer(socket) : undefined
}

/** Reads the request of an operation. @throws USAGE, HttpError */
export async function readRequest<Request>(
  { method, request }: Pick<Operation<Request>, 'method' | 'request'>,
  { incoming, query }: Exchange,
): Promise<Request> {
  if (method === 'POST') {
    refuseQuery(query)
    return readBody(request, incoming)
  }
  refuseBody(incoming)
  return readQuery(request, query)
}

function accepts({ headers }: IncomingMessage, type: string): boolean {
  return (headers.accept ?? '').split(',').some((part) => part.split(';')[0]?.trim().toLowerCase() === type)
}

function answerJson(
  outgoing: ServerResponse,
  status: number,
  value: unknown,
  type = 'application/json',
): void {
  if (outgoing.writableEnded || outgoing.destroyed) return
  const body = Buffer.from(`${JSON.stringify(value, jsonValue)}\n`)
  outgoing.writeHead(status, {
    'content-type': type,
    'content-length': body.length,
    'cache-control': 'no-store',
  })
  outgoing.end(body)
}
