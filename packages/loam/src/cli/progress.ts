import { redact } from '../errors/index.ts'
import type { PullEvent } from '../stores/index.ts'
import { formatBytes, shortDigest } from './format.ts'
import type { Output } from './output.ts'

const REDRAW_MS = 100
const BAR_WIDTH = 24
const MIN_REPORTED_WAIT_MS = 1000
const MAX_LINES = 20

type LayerEvent = Extract<PullEvent, { kind: 'layer' }>

/** Shows a pull: a bar for each layer if standard error is a terminal, else a line for each completed step. Notes are lines. */
export class PullProgress {
  readonly #output: Output
  /** Collects notes for the user, for the result that a program reads. */
  readonly notes: string[] = []
  readonly #layers = new Map<number, LayerEvent>()
  #drawnLines = 0
  #lastDrawMs = -Infinity

  constructor(output: Output) {
    this.#output = output
  }

  readonly onEvent = (event: PullEvent): void => {
    if (event.kind === 'layer') this.#onLayer(event)
    else if (event.kind === 'file') this.#onFile(event)
    else if (event.kind === 'note') this.#onNote(event.text)
    else if (event.kind === 'eager') this.#onNote(`pulled eagerly: ${event.why}`)
    else if (event.kind === 'other-platform')
      this.#output.warn(
        `${event.name} is for ${event.platform}, and this machine is ${event.hostPlatform}: its programs need an emulator`,
      )
    else if (event.kind === 'retry') this.#onRetry(event)
    else if (event.kind === 'resolved') this.#output.note(`resolved ${event.name} to ${event.digest}`)
  }

  #onNote(text: string): void {
    this.notes.push(redact(text))
    this.#output.note(`note: ${text}`)
  }

  /** Short waits are not shown. */
  #onRetry({ attempted, reason, waitMs }: Extract<PullEvent, { kind: 'retry' }>): void {
    if (waitMs < MIN_REPORTED_WAIT_MS) return
    this.#erase()
    this.#drawnLines = 0
    this.#output.note(`${attempted}: ${reason}; retrying in ${Math.ceil(waitMs / 1000)} s`)
  }

  #onFile({ address, receivedBytes, isDone }: Extract<PullEvent, { kind: 'file' }>): void {
    const line = `${redact(address)} ${formatBytes(receivedBytes)}`
    if (isDone) {
      this.#erase()
      this.#drawnLines = 0
      this.#output.note(`fetched ${line}`)
    } else if (this.#output.isLive && performance.now() - this.#lastDrawMs >= REDRAW_MS) {
      this.#lastDrawMs = performance.now()
      this.#erase()
      this.#output.draw(`${this.#fit(line)}\n`)
      this.#drawnLines = 1
    }
  }

  #onLayer(event: LayerEvent): void {
    this.#layers.set(event.index, event)
    const { state } = event.progress
    if (this.#output.isLive) this.#draw(state !== 'fetching')
    else if (state === 'waiting') this.#output.note(`${label(event)} waiting for another process`)
    else if (state === 'done') this.#output.note(`${label(event)} fetched`)
    else if (state === 'lazy') this.#output.note(`${label(event)} ready, its data comes when it is read`)
    else if (state === 'exists') this.#output.note(`${label(event)} already here`)
  }

  #draw(syncEarly: boolean): void {
    const now = performance.now()
    if (!syncEarly && now - this.#lastDrawMs < REDRAW_MS) return
    this.#lastDrawMs = now
    const events = [...this.#layers.values()].toSorted((a, b) => a.index - b.index)
    // More lines than a screen has could not be redrawn: finished layers make room.
    const hidden = Math.max(0, events.length - MAX_LINES)
    const shown =
      hidden === 0
        ? events
        : events.filter(({ progress }) => progress.state === 'fetching').slice(0, MAX_LINES)
    const lines = shown.map((event) => `${label(event)} ${describe(event)}`)
    if (hidden > 0)
      lines.push(`${events.filter(isFinished).length} of ${events[0]?.count ?? 0} layers are here`)
    this.#erase()
    this.#output.draw(lines.map((line) => `${this.#fit(line)}\n`).join(''))
    this.#drawnLines = lines.length
  }

  /** A line that the terminal wraps could not be redrawn. */
  #fit(line: string): string {
    return line.slice(0, this.#output.columns)
  }

  #erase(): void {
    if (this.#drawnLines > 0) this.#output.draw(`\u001b[${this.#drawnLines}A\u001b[J`)
  }
}

function isFinished({ progress }: LayerEvent): boolean {
  return progress.state !== 'waiting' && progress.state !== 'fetching'
}

function label({ index, count, digest }: LayerEvent): string {
  return `layer ${String(index + 1).padStart(String(count).length)}/${count} ${shortDigest(digest)}`
}

function describe({ progress }: LayerEvent): string {
  switch (progress.state) {
    case 'waiting':
      return 'waiting for another process'
    case 'exists':
      return 'already here'
    case 'done':
      return 'done'
    case 'lazy':
      return `ready, ${formatBytes(progress.totalBytes)} come when they are read`
    case 'fetching': {
      const share = progress.totalBytes === 0 ? 1 : progress.receivedBytes / progress.totalBytes
      const filled = Math.round(share * BAR_WIDTH)
      const bar = `${'='.repeat(filled)}${' '.repeat(BAR_WIDTH - filled)}`
      return `[${bar}] ${formatBytes(progress.receivedBytes)} of ${formatBytes(progress.totalBytes)}`
    }
  }
}
