import { isLoamError, LoamError } from 'loamfs'
import {
  type Conversation,
  CONVERSATIONS,
  type Conversations,
  type LineLimits,
  readLines,
} from 'loamfs/internal'
import { type Context, CONVERSATION_ACTIONS } from '../operations/index.ts'
import { MAX_BODY_BYTES } from './limits.ts'
import { Lines } from './lines.ts'
import type { Exchange, OperationHandler } from './operation-handler.ts'
import { HttpError } from './problem.ts'
import { check, refuseQuery, withinTimeout } from './request.ts'

type Act = (
  context: Context<unknown>,
  request: unknown,
  ask: (event: object) => Promise<unknown>,
) => Promise<unknown>

/** curl sends a file without its last line feed. */
const LINE_LIMITS: LineLimits = {
  maxBytes: MAX_BODY_BYTES,
  tooLong: () => new HttpError(413, `read the request: a line has more than ${MAX_BODY_BYTES} bytes`),
  notText: () => new LoamError('USAGE', 'read the request: a line is not UTF-8'),
  isEndOptional: true,
}

/**
 * Answers a request in which its client has a part: lines of JSON in both directions. A client that ends its body before it was asked gives up: the
 * operation is canceled.
 */
export async function answerConversation(
  name: keyof Conversations,
  exchange: Exchange,
  handler: OperationHandler,
): Promise<void> {
  await handler.begin(name, exchange, async (disconnected) => {
    const definition = CONVERSATIONS[name] as Conversation
    const { incoming, outgoing, query } = exchange
    refuseQuery(query)
    // Its client reads the answer only when the connection is not closed under it.
    const said = readLines(incoming.iterator({ destroyOnReturn: false }), LINE_LIMITS)
    const request = check(definition.request, await withinTimeout(nextOf(said)))
    const lines = new Lines(outgoing)
    const leaving = new AbortController()
    let isAsked = false
    // Read ahead, to notice that the client gives up.
    const reply = nextOf(said)
    reply.catch((error: unknown) => {
      if (!isAsked && isLoamError(error)) leaving.abort(error)
    })
    const ask = async (event: object) => {
      isAsked = true
      lines.tell({ event })
      return check(definition.reply, await reply)
    }
    const onEvent = (event: unknown) => {
      lines.event({ event })
    }
    const signal = AbortSignal.any([disconnected, leaving.signal])
    await handler.conclude(name, lines, async () => {
      try {
        const context = handler.contextOf({ signal, onEvent })
        return await (CONVERSATION_ACTIONS[name] as Act)(context, request, ask)
      } catch (error) {
        throw leaving.signal.aborted ? leaving.signal.reason : error
      }
    })
  })
}

async function nextOf(lines: AsyncGenerator<string>): Promise<unknown> {
  const { done, value } = await lines.next()
  if (done === true) throw new LoamError('USAGE', 'read the request: it ended before its client said all')
  try {
    return JSON.parse(value)
  } catch {
    throw new LoamError('USAGE', 'read the request: a line is not JSON')
  }
}
