import { type DaemonStatus, DaemonStatusSchema } from '../api/index.ts'
import { check } from '../image/index.ts'
import { isErrno } from '../errors/index.ts'

const TIMEOUT_MS = 5_000

/** Asks the daemon at a socket what it does. Returns why not, in words, where none answers. @throws DOCUMENT_INVALID when something else answers */
export async function askDaemonStatus(socketPath: string): Promise<DaemonStatus | string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  // Every other command would wait until they are loaded.
  const [{ request }, { text }] = await Promise.all([import('node:http'), import('node:stream/consumers')])
  const asked = request({ socketPath, path: '/v1/status', timeout: TIMEOUT_MS }, (response) => {
    text(response).then(resolve, reject)
  })
  asked.on('error', reject)
  asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)))
  asked.end()
  let answer: string
  try {
    answer = await promise
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 'no such socket'
    if (isErrno(error, 'ECONNREFUSED')) return 'nothing listens there'
    if (isErrno(error, 'EACCES')) return 'permission denied'
    return error instanceof Error ? error.message : String(error)
  }
  return check(DaemonStatusSchema, parse(answer), `answer of ${socketPath}`)
}

function parse(answer: string): unknown {
  try {
    return JSON.parse(answer)
  } catch {
    return answer
  }
}
