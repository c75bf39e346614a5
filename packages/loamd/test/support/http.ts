// Requests over a unix socket.
import { request } from 'node:http'
import { text } from 'node:stream/consumers'

/** Asks for a path of the API. */
export async function get(socketPath: string, path: string): Promise<{ status: number; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>()
  const asked = request({ socketPath, path }, (response) => {
    const read = async () => {
      resolve({ status: response.statusCode ?? 0, body: await text(response) })
    }
    read().catch(reject)
  })
  asked.on('error', reject)
  asked.end()
  return promise
}
