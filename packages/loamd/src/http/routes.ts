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
import { answerUpload } from './upload-handler.ts'
import { HttpError, PROBLEM_TYPE, toProblem } from './problem.ts'

type Environment = { Bindings: HttpBindings }

/** Returns the routes of the API: one for each operation of the table. */
export function createRoutes(services: ApiServices, events: EventStreams): Hono<Environment> {
  const app = new Hono<Environment>()
  const handler = new OperationHandler(services)
  const add = (method: string, path: string, answer: (exchange: Exchange) => Promise<void>) => {
    app.on(method, path, async (context) => {
      await answer(exchangeOf(context))
      return RESPONSE_ALREADY_SENT
    })
  }
  for (const name of Object.keys(OPERATIONS) as OperationName[]) {
    const { method, path } = OPERATIONS[name]
    add(method, path, async (exchange) => handler.answer(name, exchange))
  }
  for (const name of Object.keys(DOWNLOADS) as (keyof Downloads)[]) {
    const { method, path } = DOWNLOADS[name]
    add(method, path, async (exchange) => answerDownload(name, exchange, handler))
  }
  for (const name of Object.keys(CONVERSATIONS) as (keyof Conversations)[]) {
    const { method, path } = CONVERSATIONS[name]
    add(method, path, async (exchange) => answerConversation(name, exchange, handler))
  }
  for (const name of Object.keys(UPLOADS) as (keyof Uploads)[]) {
    const { method, path } = UPLOADS[name]
    add(method, path, async (exchange) => answerUpload(name, exchange, handler))
  }
  const { method, path } = SUBSCRIPTIONS['daemon.events']
  add(method, path, async (exchange) => events.answer(exchange, handler))
  app.get('/metrics', async (context) => {
    const { type, text } = await services.exposition.read()
    return context.body(text, 200, { 'content-type': type })
  })
  app.get('/v1/openapi.json', (context) => context.json(createOpenApi()))
  app.notFound(({ req }) => {
    const methods = methodsOf(req.path)
    return methods.length === 0
      ? problemResponse(new HttpError(404, `${req.method} ${req.path}: no such operation`))
      : problemResponse(
          new HttpError(405, `${req.method} ${req.path}: this path takes ${methods.join(', ')}`),
          {
            allow: methods.join(', '),
          },
        )
  })
  app.onError((error) => problemResponse(error))
  return app
}

function exchangeOf({ env, req }: Context<Environment>): Exchange {
  const { incoming, outgoing } = env
  return { incoming, outgoing, query: new URL(req.url).searchParams }
}

interface Route {
  readonly method: string
  readonly path: string
}

function methodsOf(path: string): string[] {
  const all = [OPERATIONS, DOWNLOADS, UPLOADS, CONVERSATIONS, SUBSCRIPTIONS].flatMap((table) =>
    Object.values<Route>(table),
  )
  return all.filter((each) => each.path === path).map(({ method }) => method)
}

function problemResponse(error: unknown, headers: Readonly<Record<string, string>> = {}): Response {
  const problem = toProblem(error)
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: { 'content-type': PROBLEM_TYPE, ...headers },
  })
}
