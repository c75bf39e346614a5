import { type DaemonStatus, DaemonStatusSchema } from '../api/index.ts'
import { check } from '../image/index.ts'
import { askDaemon } from './ask-daemon.ts'

/** Asks the daemon at a socket what it does. Returns why not, in words, where none answers. @throws DOCUMENT_INVALID when something else answers */
export async function askDaemonStatus(socketPath: string): Promise<DaemonStatus | string> {
  const answer = await askDaemon(socketPath, { method: 'GET', path: '/v1/status' })
  return typeof answer === 'string'
    ? answer
    : check(DaemonStatusSchema, answer.body, `answer of ${socketPath}`)
}
