import { type LoamError, redact, toLoamError, visible, visibleJson } from '../errors/index.ts'
import { writeStandardError, writeStandardOutput } from '../linux/index.ts'

export interface OutputOptions {
  readonly json: boolean
  readonly quiet: boolean
}

/**
 * Results to standard output, everything else to standard error: a script reads one and a person the other. The only place that writes
 * text, and the one that makes it safe to be shown: what an image, a registry or a path says reaches no terminal as it is.
 */
export class Output {
  readonly json: boolean
  readonly quiet: boolean

  constructor({ json, quiet }: OutputOptions) {
    this.json = json
    this.quiet = quiet
  }

  /** Writes a result: as one JSON value, or as the lines of its text. */
  result(value: unknown, text: () => string | readonly string[]): void {
    if (this.json) {
      this.document(value)
      return
    }
    const lines = text()
    const all = typeof lines === 'string' ? [lines] : lines
    if (all.length > 0) writeStandardOutput(`${all.map(visible).join('\n')}\n`)
  }

  /** Writes a result that is always JSON, with and without `--json`. */
  document(value: unknown): void {
    writeStandardOutput(`${visibleJson(value, jsonValue, 2)}\n`)
  }

  /**
   * Writes a result that is a path of this machine, which scripts go on with. They get it as it is, and a terminal what can be shown of it,
   * as from ls.
   */
  path(value: unknown, path: string): void {
    if (this.json || process.stdout.isTTY) this.result(value, () => path)
    else writeStandardOutput(`${path}\n`)
  }

  /** Writes a line for a person who watches. */
  note(text: string): void {
    if (!this.quiet && !this.json) writeStandardError(`${redact(text)}\n`)
  }

  /** Writes a line that a person is asked about, who may have asked for no notes. */
  question(text: string): void {
    writeStandardError(`${redact(text)}\n`)
  }

  /** Writes a line that matters also to who watches nothing. */
  warn(text: string): void {
    if (!this.json) writeStandardError(`loam: warning: ${redact(text)}\n`)
  }

  /** Writes an error: one line and a hint, or one JSON object. */
  error(error: unknown): LoamError {
    const failure = toLoamError(error, 'loam')
    if (this.json) {
      const { code, kind, message, hint, details } = failure
      writeStandardError(`${visibleJson({ error: { code, kind, message, hint, details } }, jsonValue)}\n`)
    } else {
      writeStandardError(`loam: ${failure.message}\n`)
      if (failure.hint !== undefined) writeStandardError(`hint: ${failure.hint}\n`)
    }
    if (process.env['LOAM_DEBUG'] !== undefined) writeStandardError(`${stackOf(failure)}\n`)
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
