import { formatDuration, toAscii } from '../format.ts'
import type { ProgressBoard } from './board.ts'
import { drawScreen, type ScreenLine, type ScreenSize } from './screen.ts'
import type { ProgressView } from './view.ts'

/** Work that is over sooner is not shown: the user has not waited. */
const SHOWN_AFTER_MS = 300
const REDRAW_MS = 100

/** A terminal, and the clock of the process. */
export interface Terminal {
  readonly size: () => ScreenSize
  /** Writes codes and text. Returns false if nothing was written, because the reader is behind. */
  readonly draw: (text: string) => boolean
  /** Returns a text in the style of its line. */
  readonly style: (line: ScreenLine) => string
  readonly now: () => number
}

/** Draws the work at the bottom of a terminal, again and again in the same place. */
export class LiveView implements ProgressView {
  readonly #terminal: Terminal
  readonly #board: ProgressBoard
  #purpose: string | undefined
  #timer: NodeJS.Timeout | undefined
  #beganMs: number | undefined
  /** The drawing that is on the screen, without styles. */
  #drawn: readonly string[] = []
  hasShown = false

  constructor(board: ProgressBoard, terminal: Terminal) {
    this.#board = board
    this.#terminal = terminal
  }

  /** There is work: it is drawn if it takes a while. `purpose` is shown while nothing else is known. */
  begin(purpose?: string): void {
    this.#purpose = purpose ?? this.#purpose
    this.#beganMs ??= this.#terminal.now()
    this.#timer ??= setInterval(() => {
      this.tick()
    }, REDRAW_MS).unref()
  }

  /** Draws what has changed. */
  tick(): void {
    const nowMs = this.#terminal.now()
    if (this.#beganMs === undefined || nowMs - this.#beganMs < SHOWN_AFTER_MS) return
    const size = this.#terminal.size()
    const lines = this.#board.isBusy ? drawScreen(this.#board, size) : this.#drawPurpose(nowMs, size)
    if (lines.length === 0) return
    const body = lines.map((line) => `${this.#terminal.style(line)}\u001b[K\n`).join('')
    if (!this.#terminal.draw(`${this.#upward(size)}${body}\u001b[J`)) return
    this.#drawn = lines.map(({ text }) => text)
    this.hasShown = true
  }

  #drawPurpose(nowMs: number, { columns }: ScreenSize): ScreenLine[] {
    if (this.#purpose === undefined || this.#beganMs === undefined) return []
    const text = `${toAscii(this.#purpose)}  ${formatDuration(nowMs - this.#beganMs)}`
    return [{ text: text.slice(0, Math.max(1, columns - 1)), style: 'plain' }]
  }

  /**
   * Returns the codes that lead to the first row of the last drawing. A terminal that has become narrower since then has wrapped its lines, as the usual
   * ones do.
   */
  #upward({ columns }: ScreenSize): string {
    const rows = this.#drawn.reduce(
      (count, text) => count + Math.max(1, Math.ceil(text.length / Math.max(1, columns))),
      0,
    )
    return rows === 0 ? '' : `\r\u001b[${rows}A`
  }

  /** Removes the drawing, so that something else can be written in its place. */
  clear(): void {
    if (this.#drawn.length === 0) return
    this.#terminal.draw(`${this.#upward(this.#terminal.size())}\u001b[J`)
    this.#drawn = []
  }

  /** Removes the drawing, and draws no more until `begin`. */
  end(): void {
    this.clear()
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#beganMs = undefined
  }
}
