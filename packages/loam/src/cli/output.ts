import { type LoamError, redact, toLoamError, visible, visibleJson } from '../errors/index.ts'
import { styleText } from 'node:util'
import type { Host } from './host.ts'
import { ProgressBoard } from './progress/board.ts'
import { LiveView } from './progress/live-view.ts'
import type { ScreenLine } from './progress/screen.ts'

/** The streams of a host that output is written to. */
export type OutputHost = Pick<Host, 'env' | 'stdout' | 'stderr'>

/** How progress is shown; `auto`: drawn on a terminal, as lines elsewhere, and not at all with `--json`. */
export const PROGRESS_MODES = ['auto', 'tty', 'plain', 'json', 'none'] as const
/** How progress is shown. */
export type ProgressMode = (typeof PROGRESS_MODES)[number]

export interface OutputOptions {
  readonly json: boolean
  readonly quiet: boolean
  readonly progress?: ProgressMode | undefined
}

const DEFAULT_COLUMNS = 80
const DEFAULT_ROWS = 24

const STYLES = {
  plain: [],
  done: ['dim'],
  waiting: ['yellow'],
  sum: ['bold'],
} as const satisfies Record<ScreenLine['style'], readonly Parameters<typeof styleText>[0][]>

/**
 * Writes results to standard output, and everything else to standard error: programs read the former and users the latter. The only place that
 * writes text, and that escapes it: no text of an image, a registry or a path reaches a terminal unescaped.
 */
export class Output {
  readonly json: boolean
  readonly quiet: boolean
  /** How progress is shown. */
  readonly progress: Exclude<ProgressMode, 'auto'>
  /** The work in progress. */
  readonly board = new ProgressBoard(() => performance.now())
  readonly #host: OutputHost
  #view: LiveView | undefined

  constructor(host: OutputHost, { json, quiet, progress = 'auto' }: OutputOptions) {
    this.#host = host
    this.json = json
    this.quiet = quiet
    if (quiet) this.progress = 'none'
    else if (progress !== 'auto') this.progress = progress
    else if (json) this.progress = 'none'
    else this.progress = host.stderr.isTerminal && host.env['TERM'] !== 'dumb' ? 'tty' : 'plain'
  }

  /** Shows the board from now on, if progress is drawn. `purpose` is shown while nothing else is known. */
  beginWork(purpose?: string): void {
    if (this.progress !== 'tty') return
    this.#view ??= new LiveView(this.board, {
      size: () => ({
        columns: this.#host.stderr.columns ?? DEFAULT_COLUMNS,
        rows: this.#host.stderr.rows ?? DEFAULT_ROWS,
      }),
      draw: (text) => {
        if (this.#host.stderr.isBehind) return false
        this.#host.stderr.write(text)
        return true
      },
      style: ({ text, style }) => this.#styled(STYLES[style], text),
      now: () => performance.now(),
    })
    this.#view.begin(purpose)
  }

  /** Ends the display of work, for example before another program gets the terminal. Returns whether the user has seen any. */
  endWork(): boolean {
    this.#view?.end()
    return this.#view?.hasShown ?? false
  }

  /** Colours are for terminals, unless the user turns them off (no-color.org). */
  #styled(style: readonly Parameters<typeof styleText>[0][], text: string): string {
    const { env, stderr } = this.#host
    const isColored = stderr.isTerminal && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'
    return isColored
      ? style.reduce((all, each) => styleText(each, all, { validateStream: false }), text)
      : text
  }

  /** Writes lines for users and for programs that watch: after them the drawing goes on. */
  #writeError(text: string): void {
    this.#view?.clear()
    this.#host.stderr.write(text)
  }

  #writeOutput(text: string): void {
    this.endWork()
    this.#host.stdout.write(text)
  }

  /** Writes an event of the work as a line of JSON, if that is how progress is shown. */
  event(event: object): void {
    if (this.progress !== 'json') return
    this.#writeError(`${visibleJson(event, redactedValue)}\n`)
  }

  /** Writes a result: as one JSON value, or as the lines of its text. */
  result(value: unknown, text: () => string | readonly string[]): void {
    if (this.json) {
      this.document(value)
      return
    }
    const lines = text()
    const all = typeof lines === 'string' ? [lines] : lines
    if (all.length > 0) this.#writeOutput(`${all.map(visible).join('\n')}\n`)
  }

  /** Writes lines in a form that the user gave: their tabs and line breaks stay. */
  formatted(lines: readonly string[]): void {
    const escaped = lines.map((line) =>
      line
        .split(/(?<=[\t\n])/)
        .map((part) =>
          /[\t\n]$/.test(part) ? `${visible(part.slice(0, -1))}${part.at(-1) ?? ''}` : visible(part),
        )
        .join(''),
    )
    if (lines.length > 0) this.#host.stdout.write(`${escaped.join('\n')}\n`)
  }

  /** Writes one of many results that come over time: as a line of JSON, or as a line of text. */
  line(value: unknown, text: () => string): void {
    this.#writeOutput(`${this.json ? visibleJson(value, jsonValue) : visible(text())}\n`)
  }

  /** Writes a result that is always JSON, with and without `--json`. */
  document(value: unknown): void {
    this.#writeOutput(`${visibleJson(value, jsonValue, 2)}\n`)
  }

  /**
   * Writes a result that is a path of this machine, which scripts use further. They get it unchanged, and a terminal gets it escaped,
   * as from ls.
   */
  path(value: unknown, path: string): void {
    if (this.json || this.#host.stdout.isTerminal) this.result(value, () => path)
    else this.#writeOutput(`${path}\n`)
  }

  /** Writes bytes of a process as they are; for a terminal, where they are text, use `raw`. */
  rawBytes(bytes: Uint8Array): void {
    this.#host.stdout.write(bytes)
  }

  /** Writes text of a process as it is; a terminal gets it escaped, except for the ends of lines and tabs. */
  raw(text: string): void {
    if (text === '') return
    const { stdout } = this.#host
    stdout.write(
      stdout.isTerminal
        ? text
            .split(/([\n\t]|\r\n)/)
            .map((part) => (/^[\r\n\t]+$/.test(part) ? part : visible(part)))
            .join('')
        : text,
    )
  }

  /** Writes a line for a user who watches: progress and advice. What was done otherwise than it was asked is a `difference`. */
  note(text: string): void {
    if (this.progress === 'json') this.event({ kind: 'note', text, isAdvice: true })
    else if (!this.quiet) this.#writeLine(text)
  }

  /** Writes a line about what was done otherwise than it was asked, for example what was left out; also if notes are turned off. */
  difference(text: string): void {
    if (this.progress === 'json') this.event({ kind: 'note', text })
    else this.#writeLine(text)
  }

  #writeLine(text: string): void {
    if (!this.json) this.#writeError(`${redact(text)}\n`)
  }

  /** Writes a question to the user, also if notes are turned off. */
  question(text: string): void {
    this.endWork()
    this.#host.stderr.write(`${redact(text)}\n`)
  }

  /** Writes a line that also matters to a user who does not watch. */
  warn(text: string): void {
    if (this.progress === 'json') this.event({ kind: 'warning', text })
    else if (!this.json) this.#writeError(`${this.#styled(['yellow'], 'loam: warning:')} ${redact(text)}\n`)
  }

  /** Writes an error: one line and a hint, or one JSON object. */
  error(error: unknown): LoamError {
    const failure = toLoamError(error, 'loam')
    this.endWork()
    if (this.json || this.progress === 'json') {
      const { code, kind, message, hint, details } = failure
      this.#host.stderr.write(
        `${visibleJson({ error: { code, kind, message, hint, details } }, jsonValue)}\n`,
      )
    } else {
      this.#host.stderr.write(`${this.#styled(['red', 'bold'], 'loam:')} ${failure.message}\n`)
      if (failure.hint !== undefined)
        this.#host.stderr.write(`${this.#styled(['cyan'], 'hint:')} ${failure.hint}\n`)
    }
    if (this.#host.env['LOAM_DEBUG'] !== undefined) this.#host.stderr.write(`${stackOf(failure)}\n`)
    return failure
  }
}

const MAX_STACK_LENGTH = 20_000
const MAX_CAUSES = 10

function stackOf(error: Error, depth = 1): string {
  const lines = (error.stack ?? '').slice(0, MAX_STACK_LENGTH).split('\n')
  const below = error.cause instanceof Error && depth < MAX_CAUSES ? error.cause : undefined
  return `${lines.map(redact).join('\n')}${below === undefined ? '' : `\ncaused by ${stackOf(below, depth + 1)}`}`
}

function redactedValue(key: string, value: unknown): unknown {
  return typeof value === 'string' ? redact(value) : jsonValue(key, value)
}

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  return value instanceof Map ? Object.fromEntries(value) : value
}
