import type { ServerResponse } from 'node:http'
import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import { createPipe, type Downloads, DOWNLOADS } from 'loamfs/internal'
import { type Context, DOWNLOAD_ACTIONS } from '../operations/index.ts'
import { type Exchange, type OperationHandler, readRequest } from './operation-handler.ts'

/**
 * Answers with a stream. A failure before the first byte is answered by a problem document; after it the connection is closed before the last
 * chunk, which every client of HTTP/1.1 notices.
 */
export async function answerDownload(
  name: keyof Downloads,
  exchange: Exchange,
  handler: OperationHandler,
): Promise<void> {
  await handler.begin(name, exchange, async (signal) => {
    const { mediaType, ...definition } = DOWNLOADS[name]
    const request = await readRequest<unknown>(definition, exchange)
    // Each request was read by the schema of its own action.
    const act = DOWNLOAD_ACTIONS[name] as (
      context: Context<unknown>,
      request: unknown,
      output: string,
    ) => Promise<void>
    const context = handler.contextOf({ signal, onEvent: () => undefined })
    const { state } = context.loam.store.configuration.values
    await send(exchange.outgoing, { state, mediaType, signal }, async (output) =>
      act(context, request, output),
    )
  })
}

interface SendOptions {
  /** Directory for a pipe. */
  readonly state: string
  readonly mediaType: string
  readonly signal: AbortSignal
}

async function send(
  outgoing: ServerResponse,
  { state, mediaType, signal }: SendOptions,
  write: (output: string) => Promise<void>,
): Promise<void> {
  const { output, writer, closeWriter } = createPipe(state)
  const written = write(`/proc/self/fd/${writer}`).finally(closeWriter)
  try {
    await Promise.race([once(output, 'readable'), written])
    outgoing.writeHead(200, { 'content-type': mediaType, 'cache-control': 'no-store' })
    await Promise.all([pipeline(output, outgoing, { end: false, signal }), written])
    outgoing.end()
  } finally {
    // What still writes gets OUTPUT_CLOSED.
    output.destroy()
    await written.catch(() => undefined)
  }
}
