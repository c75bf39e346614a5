import { type LoamError, redact, toLoamError, visible, visibleJson } from '../errors/index.ts'
import type { Host } from './host.ts'

/** The streams of a host that output is written to. */
export type OutputHost = Pick<Host, 'env' | 'stdout' | 'stderr'>

export interface OutputOptions {
  readonly json: boolean
  readonly quiet: boolean
}

/**
 * Writes results to standard output, and everything else to standard error: programs read the former and users the latter. The only place that
 * writes text, and that escapes it: no text of an image, a registry or a path reaches a terminal unescaped.
 */
export class Output {
  readonly json: boolean
  readonly quiet: boolean
  readonly #host: OutputHost

  constructor(host: OutputHost, { json, quiet }: OutputOptions) {
    this.#host = host
    this.json = json
    this.quiet = quiet
  }

  /** Whether progress is drawn and redrawn. */
  get isLive(): boolean {
    return this.#host.stderr.isTerminal && !this.quiet && !this.json
  }

  /** Width of the terminal that progress is drawn on; undefined if it is unknown. */
  get columns(): number | undefined {
    return this.#host.stderr.columns
  }

  /** Writes a drawing that the next one replaces, with the codes of a terminal. */
  draw(text: string): void {
    if (!this.#host.stderr.isBehind) this.#host.stderr.write(text)
  }

  /** Writes a result: as one JSON value, or as the lines of its text. */
  result(value: unknown, text: () => string | readonly string[]): void {
    if (this.json) {
      this.document(value)
      return
    }
    const lines = text()
    const all = typeof lines === 'string' ? [lines] : lines
    if (all.length > 0) this.#host.stdout.write(`${all.map(visible).join('\n')}\n`)
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
    this.#host.stdout.write(`${this.json ? visibleJson(value, jsonValue) : visible(text())}\n`)
  }

  /** Writes a result that is always JSON, with and without `--json`. */
  document(value: unknown): void {
    this.#host.stdout.write(`${visibleJson(value, jsonValue, 2)}\n`)
  }

  /**
   * Writes a result that is a path of this machine, which scripts use further. They get it unchanged, and a terminal gets it escaped,
   * as from ls.
   */
  path(value: unknown, path: string): void {
    if (this.json || this.#host.stdout.isTerminal) this.result(value, () => path)
    else this.#host.stdout.write(`${path}\n`)
  }

  /** Writes a line for a user who watches. */
  note(text: string): void {
    if (!this.quiet && !this.json) this.#host.stderr.write(`${redact(text)}\n`)
  }

  /** Writes a question to the user, also if notes are turned off. */
  question(text: string): void {
    this.#host.stderr.write(`${redact(text)}\n`)
  }

  /** Writes a line that also matters to a user who does not watch. */
  warn(text: string): void {
    if (!this.json) this.#host.stderr.write(`loam: warning: ${redact(text)}\n`)
  }

  /** Writes an error: one line and a hint, or one JSON object. */
  error(error: unknown): LoamError {
    const failure = toLoamError(error, 'loam')
    if (this.json) {
      const { code, kind, message, hint, details } = failure
      this.#host.stderr.write(
        `${visibleJson({ error: { code, kind, message, hint, details } }, jsonValue)}\n`,
      )
    } else {
      this.#host.stderr.write(`loam: ${failure.message}\n`)
      if (failure.hint !== undefined) this.#host.stderr.write(`hint: ${failure.hint}\n`)
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

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  return value instanceof Map ? Object.fromEntries(value) : value
}
