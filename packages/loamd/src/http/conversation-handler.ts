import type { IncomingMessage } from 'node:http'
import { LoamError } from 'loamfs'
import { type Conversation, CONVERSATIONS, type Conversations } from 'loamfs/internal'
import { type Context, CONVERSATION_ACTIONS } from '../operations/index.ts'
import { MAX_BODY_BYTES } from './limits.ts'
import { Lines } from './lines.ts'
import type { Exchange, OperationHandler } from './operation-handler.ts'
import { HttpError } from './problem.ts'
import { check, withinTimeout } from './request.ts'

type Act = (
  context: Context<unknown>,
  request: unknown,
  ask: (event: object) => Promise<unknown>,
) => Promise<unknown>

/** Answers a request in which its client has a part: lines of JSON in both directions. */
export async function answerConversation(
  name: keyof Conversations,
  exchange: Exchange,
  handler: OperationHandler,
): Promise<void> {
  await handler.begin(name, exchange, async (signal) => {
    const definition = CONVERSATIONS[name] as Conversation
    const { incoming, outgoing } = exchange
    const said = readLines(incoming)
    const request = check(definition.request, await withinTimeout(nextOf(said)))
    const lines = new Lines(outgoing)
    const ask = async (event: object) => {
      lines.tell({ event })
      return check(definition.reply, await nextOf(said))
    }
    const onEvent = (event: unknown) => {
      lines.event({ event })
    }
    await handler.conclude(name, lines, async () =>
      (CONVERSATION_ACTIONS[name] as Act)(handler.contextOf({ signal, onEvent }), request, ask),
    )
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

async function* readLines(incoming: IncomingMessage): AsyncGenerator<string, void> {
  let rest = Buffer.alloc(0)
  // Its client reads the answer only when the connection is not closed under it.
  for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
    rest = Buffer.concat([rest, chunk as Buffer])
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      yield rest.toString('utf8', 0, end)
      rest = rest.subarray(end + 1)
    }
    if (rest.length > MAX_BODY_BYTES)
      throw new HttpError(413, `read the request: a line has more than ${MAX_BODY_BYTES} bytes`)
  }
  // curl sends a file without its last line feed.
  if (rest.length > 0) yield rest.toString('utf8')
}
