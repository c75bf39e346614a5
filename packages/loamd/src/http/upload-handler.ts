import type { IncomingMessage } from 'node:http'
import { MAX_TIMER_MS, UPLOADS, type Uploads } from 'loamfs/internal'
import { type Context, UPLOAD_ACTIONS } from '../operations/index.ts'
import type { Exchange, OperationHandler } from './operation-handler.ts'
import { readQuery } from './request.ts'

/** Answers a request whose body is a stream of bytes, with lines of JSON if its client accepts them. */
export async function answerUpload(
  name: keyof Uploads,
  exchange: Exchange,
  handler: OperationHandler,
): Promise<void> {
  await handler.begin(name, exchange, async (signal) => {
    const { incoming, query } = exchange
    const request: unknown = readQuery<unknown>(UPLOADS[name].request, query)
    // Each request was read by the schema of its own action.
    const act = UPLOAD_ACTIONS[name] as (
      context: Context<unknown>,
      request: unknown,
      body: AsyncIterable<Uint8Array>,
    ) => Promise<unknown>
    await handler.respond(name, exchange, async (onEvent) => {
      const context = handler.contextOf({ signal, onEvent })
      const { fetcher_stall_timeout: stallMs } = context.loam.store.configuration.values
      return act(context, request, readBytes(incoming, stallMs))
    })
  })
}

/** Yields the body of a request. Closes the connection of a client that sends nothing for `stallMs`. */
async function* readBytes(incoming: IncomingMessage, stallMs: number): AsyncGenerator<Uint8Array> {
  const watch = () => setTimeout(() => incoming.destroy(), Math.min(stallMs, MAX_TIMER_MS))
  let timer = watch()
  try {
    // Its client may still send, and reads the answer only when the connection is not closed under it.
    for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
      clearTimeout(timer)
      yield chunk as Uint8Array
      timer = watch()
    }
  } finally {
    clearTimeout(timer)
  }
}
