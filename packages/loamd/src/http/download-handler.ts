import type { ServerResponse } from 'node:http'
import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import { createPipe, type Downloads, DOWNLOADS, MAX_TIMER_MS, RESULT_TRAILER } from 'loamfs/internal'
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
    ) => Promise<unknown>
    const context = handler.contextOf({ signal, onEvent: () => undefined })
    const { state, fetcher_stall_timeout: stallMs } = context.loam.store.configuration.values
    await send(exchange.outgoing, { state, stallMs, mediaType, signal }, async (output) =>
      act(context, request, output),
    )
  })
}

interface SendOptions {
  /** Directory for a pipe. */
  readonly state: string
  /** Time limit in which the client has to read at least one byte. */
  readonly stallMs: number
  readonly mediaType: string
  readonly signal: AbortSignal
}

async function send(
  outgoing: ServerResponse,
  { state, stallMs, mediaType, signal }: SendOptions,
  write: (output: string) => Promise<unknown>,
): Promise<void> {
  const { output, writer, closeWriter } = createPipe(state)
  const watch = watchReader(outgoing, stallMs)
  const written = write(`/proc/self/fd/${writer}`).finally(closeWriter)
  try {
    await Promise.race([once(output, 'readable'), written])
    outgoing.writeHead(200, {
      'content-type': mediaType,
      'cache-control': 'no-store',
      // HTTP/1.0 has no chunks, and no trailer behind them.
      ...(outgoing.useChunkedEncodingByDefault ? { trailer: RESULT_TRAILER } : {}),
    })
    const [, result] = await Promise.all([pipeline(output, outgoing, { end: false, signal }), written])
    if (result !== undefined)
      outgoing.addTrailers({ [RESULT_TRAILER]: encodeURIComponent(JSON.stringify(result)) })
    outgoing.end()
  } finally {
    clearInterval(watch)
    // A writer that is still at work gets OUTPUT_CLOSED.
    output.destroy()
    await written.catch(() => undefined)
  }
}

/** Ends an answer whose client reads nothing: its writer holds a thread and locks. */
function watchReader(outgoing: ServerResponse, stallMs: number): NodeJS.Timeout {
  let sentBytes = 0
  return setInterval(
    () => {
      const { bytesWritten = 0, writableLength = 0 } = outgoing.socket ?? {}
      const hasRead = bytesWritten - writableLength > sentBytes
      sentBytes = bytesWritten - writableLength
      if (outgoing.writableLength > 0 && !hasRead) outgoing.destroy()
    },
    Math.min(stallMs, MAX_TIMER_MS),
  )
}
