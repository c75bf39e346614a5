import type { Activity, ActivityEvent } from 'loamfs'
import { fitsOperation, type RequestOf, SUBSCRIPTIONS } from 'loamfs/internal'
import { Lines } from './lines.ts'
import { type Exchange, type OperationHandler, readRequest } from './operation-handler.ts'

/** Interval of lines on an idle stream, so that a client notices when its daemon is gone, and the daemon when the client is. */
const ALIVE_MS = 15_000

type Filter = RequestOf<(typeof SUBSCRIPTIONS)['daemon.events']>

/** Streams of events to clients. */
export class EventStreams {
  readonly #activity: Activity
  readonly #open = new Set<() => void>()
  #isClosed = false

  constructor(activity: Activity) {
    this.#activity = activity
  }

  /** Answers with events until the client disconnects or the daemon stops. A client that reads slowly loses events, and gets their number. */
  async answer(exchange: Exchange, handler: OperationHandler): Promise<void> {
    await handler.begin('daemon.events', exchange, async (signal) => {
      const filter = await readRequest(SUBSCRIPTIONS['daemon.events'], exchange)
      signal.throwIfAborted()
      const lines = new Lines(exchange.outgoing)
      const over = Promise.withResolvers<void>()
      const end = () => {
        over.resolve()
      }
      signal.addEventListener('abort', end)
      this.#open.add(end)
      if (this.#isClosed) end()
      const unsubscribe = this.#activity.subscribe((event) => {
        if (isWanted(event, filter)) lines.event({ event })
      })
      const alive = setInterval(() => {
        lines.event({ alive: Date.now() })
      }, ALIVE_MS)
      await over.promise
      clearInterval(alive)
      unsubscribe()
      this.#open.delete(end)
      exchange.outgoing.end()
    })
  }

  /** Ends all streams, and those that are requested later. */
  close(): void {
    this.#isClosed = true
    for (const end of this.#open) end()
  }
}

function isWanted({ operation, kind }: ActivityEvent, { operations, kinds }: Filter): boolean {
  if (kinds !== undefined && !kinds.includes(kind)) return false
  return operations === undefined || operations.some((word) => fitsOperation(word, operation))
}
