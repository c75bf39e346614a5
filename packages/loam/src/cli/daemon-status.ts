import { type DaemonStatus, DaemonStatusSchema } from '../api/index.ts'
import { check } from '../image/index.ts'
import { askDaemon } from './ask-daemon.ts'

/** Asks the daemon at a socket for its status. Returns the reason as a sentence if no daemon answers. @throws DOCUMENT_INVALID if another program answers */
export async function askDaemonStatus(socketPath: string): Promise<DaemonStatus | string> {
  const answer = await askDaemon(socketPath, { method: 'GET', path: '/v1/status' })
  return typeof answer === 'string'
    ? answer
    : check(DaemonStatusSchema, answer.body, `answer of ${socketPath}`)
}
