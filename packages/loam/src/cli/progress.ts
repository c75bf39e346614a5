import { redact } from '../errors/index.ts'
import type { Task, WorkEvent } from './progress/board.ts'
import { formatBytes, formatDuration, shortDigest, toAscii } from './format.ts'
import type { Output } from './output.ts'

const MIN_REPORTED_WAIT_MS = 1000
/** Time between two events of one part in lines of JSON. */
const EVENT_MS = 100
/** A log without a line for longer looks like a command that hangs. */
const PLAIN_MS = 10_000

type EventOf<Kind extends WorkEvent['kind']> = Extract<WorkEvent, { readonly kind: Kind }>

/**
 * Shows the work of a command: drawn at a terminal, one line for each completed step elsewhere, or its events as lines of JSON. Nothing is shown of what
 * takes no time. Notes are lines.
 */
export class PullProgress {
  readonly #output: Output
  /** Collects notes for the user, for the result that a program reads. */
  readonly notes: string[] = []
  readonly #count = new Map<string, string>()
  readonly #lastEventMs = new Map<string, number>()
  #lastLineMs: number
  #transferred = 0

  /** `purpose` is shown while the command works and nothing else is known. */
  constructor(output: Output, purpose?: string) {
    this.#output = output
    this.#lastLineMs = performance.now()
    if (purpose !== undefined) output.beginWork(purpose)
  }

  readonly onEvent = (event: WorkEvent): void => {
    if (this.#output.progress === 'json') this.#writeEvent(event)
    if (isMessage(event)) this.#onMessage(event)
    else if (this.#output.progress !== 'json') this.#onWork(event)
  }

  #writeEvent(event: WorkEvent): void {
    const key = keyOf(event)
    const nowMs = performance.now()
    if (key !== undefined) {
      if (nowMs - (this.#lastEventMs.get(key) ?? -Infinity) < EVENT_MS) return
      this.#lastEventMs.set(key, nowMs)
    }
    this.#output.event(event)
  }

  #onMessage(event: Extract<WorkEvent, { kind: Message }>): void {
    switch (event.kind) {
      case 'note':
        this.#onNote(event)
        return
      case 'eager':
        this.#onNote({ text: `pulled eagerly: ${event.why}` })
        return
      case 'other-platform':
        if (this.#output.progress !== 'json')
          this.#output.warn(
            `${event.name} is for ${event.platform}, and this machine is ${event.hostPlatform}: its programs need an emulator`,
          )
        return
      case 'retry':
        // Short waits are not shown.
        if (event.waitMs >= MIN_REPORTED_WAIT_MS)
          this.#line(
            `${event.attempted}: ${event.reason}; retrying in ${Math.ceil(event.waitMs / 1000)} s`,
            true,
          )
        return
      case 'resolved':
        this.#line(`resolved ${event.name} to ${event.digest}`, true)
        this.#output.beginWork()
        return
      case 'digest':
        this.#difference(`the digest changes: ${event.from} → ${event.to} (${event.reason})`)
        return
      case 'resolving':
        this.#output.beginWork()
    }
  }

  #onNote({ text, isAdvice }: Pick<EventOf<'note'>, 'text' | 'isAdvice'>): void {
    this.notes.push(redact(text))
    if (isAdvice !== true) this.#difference(`note: ${text}`)
    else if (this.#output.progress !== 'json') this.#output.note(`note: ${text}`)
  }

  /** In lines of JSON the event itself says it. */
  #difference(text: string): void {
    if (this.#output.progress !== 'json') this.#output.difference(text)
  }

  /** Writes a line of progress; on a terminal only if the drawing does not say the same. */
  #line(text: string, isForTerminal: boolean): void {
    const { progress } = this.#output
    if (progress !== 'plain' && !(progress === 'tty' && isForTerminal)) return
    this.#lastLineMs = performance.now()
    this.#output.note(text)
  }

  #onWork(event: Exclude<WorkEvent, { kind: Message }>): void {
    switch (event.kind) {
      case 'layers':
        this.#onLayers(event)
        return
      case 'layer':
        this.#onLayer(event)
        return
      case 'file':
        this.#onPart(event.address, { ...event, doneBytes: event.receivedBytes, totalBytes: undefined })
        return
      case 'work':
        this.#onPart(event.what, event)
        return
      case 'blobs':
        for (const { digest, totalBytes } of event.blobs)
          this.#output.board.set(digest, { label: shortDigest(digest), totalBytes })
        this.#output.beginWork()
        return
      case 'sending':
        this.#set(event.digest, {
          label: shortDigest(event.digest),
          state: 'active',
          doneBytes: event.sentBytes,
          totalBytes: event.totalBytes,
        })
        return
      case 'blob':
        this.#onBlob(event)
    }
  }

  #set(key: string, change: Partial<Task>): Task {
    const task = this.#output.board.set(key, change)
    this.#output.beginWork()
    if (task.state === 'active' && performance.now() - this.#lastLineMs >= PLAIN_MS) {
      const { doneBytes, totalBytes } = this.#output.board.totals
      const of = totalBytes === undefined ? '' : ` of ${formatBytes(totalBytes)}`
      this.#line(`${formatBytes(doneBytes)}${of}${speedText(this.#output.board.speed)}`, false)
    }
    return task
  }

  /** The layers of one more image. Those of the image before it are done. */
  #onLayers({ layers }: EventOf<'layers'>): void {
    this.#output.board.clear()
    for (const { digest, index, totalBytes } of layers) {
      this.#count.set(digest, `${index + 1}/${layers.length}`)
      this.#output.board.set(digest, {
        label: shortDigest(digest),
        totalBytes,
        state: 'queued',
        doneBytes: 0,
      })
    }
    this.#output.beginWork()
  }

  #onLayer(event: EventOf<'layer'>): void {
    const { digest, progress, index, count } = event
    const name = `layer ${this.#count.get(digest) ?? `${index + 1}/${count}`} ${shortDigest(digest)}`
    const label = shortDigest(digest)
    switch (progress.state) {
      case 'waiting': {
        const { holderPid } = progress
        this.#set(digest, { label, state: 'waiting', holderPid })
        const who = holderPid === undefined ? 'another process' : `process ${holderPid}`
        this.#line(`${name} waiting for ${who}`, false)
        return
      }
      case 'exists':
        this.#set(digest, { label, state: 'here' })
        return
      case 'fetching': {
        const { receivedBytes: doneBytes, totalBytes } = progress
        // It may still wait for a thread or a connection.
        this.#set(digest, { label, state: doneBytes === 0 ? 'queued' : 'active', doneBytes, totalBytes })
        return
      }
      case 'lazy': {
        const come = `ready, ${formatBytes(progress.totalBytes)} come when they are read`
        this.#set(digest, { label, state: 'done', remark: come, doneBytes: 0, totalBytes: 0 })
        this.#line(`${name} ready, its data comes when it is read`, false)
        return
      }
      case 'done': {
        const task = this.#finish(digest, label)
        this.#line(`${name} fetched${resultText(task)}`, false)
      }
    }
  }

  #onPart(
    what: string,
    {
      kind,
      doneBytes,
      totalBytes,
      isDone,
    }: Pick<EventOf<'work'>, 'doneBytes' | 'totalBytes' | 'isDone'> & {
      readonly kind: 'file' | 'work'
    },
  ): void {
    const label = toAscii(redact(what))
    // The layers of an image that is written are here by now.
    if (!this.#output.board.isBusy) this.#output.board.clear()
    if (!isDone) {
      this.#set(what, { label, state: 'active', doneBytes, totalBytes })
      return
    }
    this.#output.board.set(what, { label, doneBytes, totalBytes: doneBytes })
    const task = this.#finish(what, label)
    if (kind === 'file') this.#line(`fetched ${redact(what)}${resultText(task)}`, true)
    else this.#line(`${what}${resultText(task)}`, false)
  }

  #onBlob({ digest, route }: EventOf<'blob'>): void {
    const label = shortDigest(digest)
    const remark = ROUTES[route]
    const isSent = route === 'uploaded' || route === 'copied' || route === 'packed'
    if (isSent) {
      this.#output.board.set(digest, { remark })
      const task = this.#finish(digest, label)
      this.#line(`blob ${label} ${remark}${resultText(task)}`, false)
    } else {
      this.#set(digest, {
        label,
        state: route === 'exists' ? 'here' : 'done',
        remark,
        totalBytes: 0,
        doneBytes: 0,
      })
      if (route === 'left out') this.#difference(`blob ${label} ${remark}`)
      else this.#line(`blob ${label} ${remark}`, false)
    }
  }

  #finish(key: string, label: string): Task {
    const before = this.#output.board.set(key, { label })
    const doneBytes = before.totalBytes ?? before.doneBytes
    this.#transferred += doneBytes
    return this.#set(key, { state: 'done', doneBytes })
  }

  /** Writes one line about the whole, if something was transferred. Returns the line's text. */
  summarize(verb: string): void {
    const { board } = this.#output
    const { here, finished } = board.totals
    const hasShown = this.#output.progress === 'tty' ? this.#output.endWork() : finished > 0
    if (!hasShown || this.#transferred === 0) return
    const elapsedMs = performance.now() - board.startedMs
    const speed = speedText((this.#transferred / Math.max(1, elapsedMs)) * 1000)
    const kept = here === 0 || verb !== 'fetched' ? '' : `, ${here} already here`
    this.#line(
      `${verb} ${formatBytes(this.#transferred)} in ${formatDuration(elapsedMs)}${speed}${kept}`,
      true,
    )
  }
}

type Message = 'note' | 'eager' | 'other-platform' | 'retry' | 'resolved' | 'digest' | 'resolving'
const MESSAGES: ReadonlySet<string> = new Set<Message>([
  'note',
  'eager',
  'other-platform',
  'retry',
  'resolved',
  'digest',
  'resolving',
])

function isMessage(event: WorkEvent): event is Extract<WorkEvent, { kind: Message }> {
  return MESSAGES.has(event.kind)
}

/** How a blob got to where it is now. */
const ROUTES = {
  exists: 'already there',
  mounted: 'mounted from another repository',
  copied: 'copied',
  uploaded: 'uploaded',
  packed: 'recompressed and uploaded',
  'left out': 'not uploaded: a foreign layer',
} as const

/** Returns the key of an event that comes often, and that a later one replaces. */
function keyOf(event: WorkEvent): string | undefined {
  if (event.kind === 'layer' && event.progress.state === 'fetching') {
    const { receivedBytes, totalBytes } = event.progress
    return receivedBytes === totalBytes ? undefined : event.digest
  }
  if (event.kind === 'sending') return event.sentBytes === event.totalBytes ? undefined : event.digest
  if (event.kind === 'file') return event.isDone ? undefined : event.address
  return event.kind === 'work' && !event.isDone ? event.what : undefined
}

function speedText(speed: number | undefined): string {
  return speed === undefined ? '' : `, ${formatBytes(Math.max(0, Math.round(speed)))}/s`
}

function resultText({ doneBytes, startedMs, endedMs }: Task): string {
  const seconds =
    startedMs === undefined || endedMs === undefined ? '' : ` in ${formatDuration(endedMs - startedMs)}`
  return `, ${formatBytes(doneBytes)}${seconds}`
}
