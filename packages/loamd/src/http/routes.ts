import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import { type Loam, LoamError } from 'loamfs'
import { readVersion } from '../version.ts'
import { PROBLEM_TYPE, toProblem } from './problem.ts'

/** What handlers of requests work with. */
export interface RouteServices {
  readonly loam: Loam
}

/** Version of the API: the first part of each path. */
const API_VERSION = 'v1'

/** Returns the routes of the API. */
export function createRoutes({ loam }: RouteServices): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>()
  const version = readVersion()
  app.get('/v1/version', (context) =>
    context.json({
      version,
      api: API_VERSION,
      root: loam.store.configuration.values.root,
      pid: process.pid,
    }),
  )
  app.notFound(({ req }) =>
    problemResponse(new LoamError('USAGE', `${req.method} ${req.path}: no such operation`), 404),
  )
  app.onError((error) => problemResponse(error))
  return app
}

/** Returns the answer for an error; `status` replaces the one of the error's kind. */
function problemResponse(error: unknown, status?: number): Response {
  const problem = toProblem(error, status)
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: { 'content-type': PROBLEM_TYPE },
  })
}
