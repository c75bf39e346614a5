import type { HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { type Context, Hono } from 'hono'
import {
  type Conversations,
  CONVERSATIONS,
  type Downloads,
  DOWNLOADS,
  type OperationName,
  OPERATIONS,
  SUBSCRIPTIONS,
  type Uploads,
  UPLOADS,
} from 'loamfs/internal'
import { answerConversation } from './conversation-handler.ts'
import { answerDownload } from './download-handler.ts'
import type { EventStreams } from './event-streams.ts'
import { type ApiServices, type Exchange, OperationHandler } from './operation-handler.ts'
import { createOpenApi } from './openapi.ts'
import { parseQuery } from './request.ts'
import { answerUpload } from './upload-handler.ts'
import { HttpError, PROBLEM_TYPE, toProblem } from './problem.ts'

type Environment = { Bindings: HttpBindings }

/** Returns the routes of the API: one for each operation of the table. */
export function createRoutes(services: ApiServices, events: EventStreams): Hono<Environment> {
  const app = new Hono<Environment>()
  const handler = new OperationHandler(services)
  const add = ({ method, path }: Route, answer: (exchange: Exchange) => Promise<void>, isStream = false) => {
    app.on(method, path, async (context) => {
      // A HEAD is answered as its GET, without the body. A stream would be made for nothing, or would not end.
      if (isStream && context.req.method === 'HEAD') return refuseMethod(context)
      await answer(exchangeOf(context))
      return RESPONSE_ALREADY_SENT
    })
  }
  for (const name of Object.keys(OPERATIONS) as OperationName[]) {
    add(OPERATIONS[name], async (exchange) => handler.answer(name, exchange))
  }
  for (const name of Object.keys(DOWNLOADS) as (keyof Downloads)[]) {
    add(DOWNLOADS[name], async (exchange) => answerDownload(name, exchange, handler), true)
  }
  for (const name of Object.keys(CONVERSATIONS) as (keyof Conversations)[]) {
    add(CONVERSATIONS[name], async (exchange) => answerConversation(name, exchange, handler))
  }
  for (const name of Object.keys(UPLOADS) as (keyof Uploads)[]) {
    add(UPLOADS[name], async (exchange) => answerUpload(name, exchange, handler))
  }
  add(SUBSCRIPTIONS['daemon.events'], async (exchange) => events.answer(exchange, handler), true)
  app.get('/metrics', async (context) => {
    const { type, text } = await services.exposition.read()
    return context.body(text, 200, { 'content-type': type })
  })
  app.get('/v1/openapi.json', (context) => context.json(createOpenApi()))
  app.notFound(refuseMethod)
  app.onError((error) => problemResponse(error))
  return app
}

function exchangeOf({ env }: Context<Environment>): Exchange {
  const { incoming, outgoing } = env
  return { incoming, outgoing, query: parseQuery(incoming.url) }
}

interface Route {
  readonly method: string
  readonly path: string
}

/** Answers a request whose path is unknown, or takes other methods. */
function refuseMethod({ req: { method, path } }: Context): Response {
  const allow = methodsOf(path).join(', ')
  if (allow === '') return problemResponse(new HttpError(404, `${method} ${path}: no such operation`))
  return problemResponse(new HttpError(405, `${method} ${path}: this path takes ${allow}`), { allow })
}

function methodsOf(path: string): string[] {
  const all = [OPERATIONS, DOWNLOADS, UPLOADS, CONVERSATIONS, SUBSCRIPTIONS].flatMap((table) =>
    Object.values<Route>(table),
  )
  return all.filter((each) => each.path === path).map(({ method }) => method)
}

/** Returns the answer for an error. */
export function problemResponse(error: unknown, headers: Readonly<Record<string, string>> = {}): Response {
  const problem = toProblem(error)
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: { 'content-type': PROBLEM_TYPE, ...headers },
  })
}
