// Requests over a unix socket.
import { type Agent, request } from 'node:http'
import { text } from 'node:stream/consumers'

export interface Answer {
  readonly status: number
  readonly body: string
}

/** Requests a path of the API; with an agent, on one of its connections. */
export async function get(socketPath: string, path: string, agent?: Agent): Promise<Answer> {
  return send({ socketPath, path, agent })
}

/** Posts JSON to a path of the API. */
export async function post(socketPath: string, path: string, body: unknown): Promise<Answer> {
  return send({ socketPath, path, body })
}

async function send(options: {
  readonly socketPath: string
  readonly path: string
  readonly agent?: Agent | undefined
  readonly body?: unknown
}): Promise<Answer> {
  const { socketPath, path, agent, body } = options
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const method = body === undefined ? 'GET' : 'POST'
  const headers = { 'content-type': 'application/json' }
  const asked = request({ socketPath, path, method, headers, agent }, (response) => {
    const read = async () => {
      resolve({ status: response.statusCode ?? 0, body: await text(response) })
    }
    read().catch(reject)
  })
  asked.on('error', reject)
  asked.end(body === undefined ? undefined : JSON.stringify(body))
  return promise
}
