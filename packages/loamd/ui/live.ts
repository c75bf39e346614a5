import { signal } from '@preact/signals'
import type { ActivityEvent } from 'loamfs'
import { ApiError, ask, token } from './api.ts'
import { applyToPulls, type Pull } from './pulls.ts'
import { announce, refreshStore } from './state.ts'

const LOG_LENGTH = 200
/** Progress events arrive many times a second. */
const SHOW_MS = 100
/** Several operations often end together. */
const REFRESH_MS = 400
const SECOND_MS = 1000
const FIRST_WAIT_MS = 500
const LAST_WAIT_MS = 10_000
/** Operations that only read, as this page does all the time: they are not listed. */
const LOOKING = /^store\.(?:usage|doctor)$/
/** Operations that change nothing on the page. */
const READING = /^(?:store\.|images\.(?:push|contents)|containers\.export|snapshots\.diff)/

/** An operation that has ended. */
export type EndEvent = Extract<ActivityEvent, { kind: 'end' }>

/** Whether the page is connected to the stream of events. */
export const isConnected = signal(false)
/** The time, each second during a pull: without events the speed falls, too. */
export const nowMs = signal(Date.now())
/** Pulls in progress. */
export const pulls = signal<readonly Pull[]>([])
/** Operations that have ended, the latest first. */
export const log = signal<readonly EndEvent[]>([])

let current: readonly Pull[] = []
let showing: ReturnType<typeof setTimeout> | undefined
let ticking: ReturnType<typeof setInterval> | undefined
let refreshing: ReturnType<typeof setTimeout> | undefined

/** Follows the events of the daemon while it accepts the token of this page, and reconnects when the daemon was away. */
export async function watch(): Promise<void> {
  for (let waitMs = FIRST_WAIT_MS; token.value !== undefined; waitMs = Math.min(waitMs * 2, LAST_WAIT_MS)) {
    try {
      const response = await ask('/v1/events', {}, { accept: 'application/x-ndjson' })
      isConnected.value = true
      waitMs = FIRST_WAIT_MS
      // Something may have changed before the first event.
      void refreshStore()
      for await (const event of readLines(response)) take(event)
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return
    }
    isConnected.value = false
    // The ends of operations in progress will not be reported any more.
    show([])
    await new Promise((resolve) => setTimeout(resolve, waitMs))
  }
}

/** A line of the stream: an event, or the number of events that a slow reader has lost. */
interface Line {
  readonly event?: ActivityEvent
  readonly dropped?: number
}

async function* readLines({ body }: Response): AsyncGenerator<ActivityEvent> {
  if (body === null) return
  let rest = ''
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const { event, dropped } = JSON.parse(line) as Line
      // The end of a pull may be among the lost events.
      if (dropped !== undefined) show([])
      if (event !== undefined) yield event
    }
  }
}

function take(event: ActivityEvent): void {
  // By the clock of this machine: the page of another one may be forwarded to it.
  current = applyToPulls(current, { ...event, timeMs: Date.now() })
  showing ??= setTimeout(() => {
    show(current)
  }, SHOW_MS)
  if (event.kind !== 'end' || event.parentId !== undefined) return
  if (LOOKING.test(event.operation)) return
  log.value = [event, ...log.value].slice(0, LOG_LENGTH)
  if (event.operation === 'images.pull') {
    const { image = 'an image' } = event.attributes
    announce(event.error === undefined ? `Pulled ${image}.` : `Pulling ${image} failed.`)
  }
  if (READING.test(event.operation) || event.attributes['dryRun'] === true) return
  refreshing ??= setTimeout(() => {
    refreshing = undefined
    void refreshStore()
  }, REFRESH_MS)
}

function show(next: readonly Pull[]): void {
  clearTimeout(showing)
  showing = undefined
  current = next
  pulls.value = next
  nowMs.value = Date.now()
  if (next.length === 0) {
    clearInterval(ticking)
    ticking = undefined
    return
  }
  ticking ??= setInterval(() => {
    nowMs.value = Date.now()
  }, SECOND_MS)
}
