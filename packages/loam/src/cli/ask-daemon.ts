import { faultOfSocket } from '../errors/index.ts'

const TIMEOUT_MS = 10_000

/** A request to the daemon without fields. */
export interface DaemonRequest {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
}

/** An answer of the daemon: JSON, unless another program listens there. */
export interface DaemonAnswer {
  readonly status: number
  readonly body: unknown
}

/** Asks the daemon at a socket. Returns the reason as a sentence if no daemon answers. */
export async function askDaemon(
  socketPath: string,
  { method, path }: DaemonRequest,
): Promise<DaemonAnswer | string> {
  // Loaded here, so that other commands do not wait for it.
  const { request } = process.getBuiltinModule('node:http')
  const { text } = await import('node:stream/consumers')
  const { promise, resolve, reject } = Promise.withResolvers<DaemonAnswer>()
  const body = method === 'POST' ? '{}' : ''
  const headers = { 'content-type': 'application/json', 'content-length': body.length }
  const asked = request({ socketPath, method, path, headers, timeout: TIMEOUT_MS }, (response) => {
    const read = async () => {
      resolve({ status: response.statusCode ?? 0, body: parse(await text(response)) })
    }
    read().catch(reject)
  })
  asked.on('error', reject)
  asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)))
  asked.end(body)
  try {
    return await promise
  } catch (error) {
    return faultOfSocket(error)
  }
}

function parse(answer: string): unknown {
  try {
    return JSON.parse(answer)
  } catch {
    return answer
  }
}
