import { TimeLimit } from '../linux/index.ts'
import { GrpcSession } from './grpc-session.ts'

const TIMEOUT_MS = 10_000

/** Calls a method with one request and one response at a unix socket. @throws Error with a sentence as its message, and system errors */
export async function callGrpc(socket: string, method: string, request: Uint8Array): Promise<Uint8Array> {
  using session = new GrpcSession(socket)
  using limit = new TimeLimit(TIMEOUT_MS)
  try {
    return await session.call(method, request, { signal: limit.signal })
  } catch (error) {
    if (!limit.isOver) throw error
    throw new Error(`no answer within ${TIMEOUT_MS / 1000} s`, { cause: error })
  }
}
