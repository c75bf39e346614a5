import { isLoamError, LoamError, redact, toLoamError } from '../errors/index.ts'
import { writeStandardError, writeStandardOutput } from '../linux/index.ts'

export interface OutputOptions {
  readonly json: boolean
  readonly quiet: boolean
}

/** Results to standard output, everything else to standard error: a script reads one and a person the other. */
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
      writeStandardOutput(`${JSON.stringify(value, jsonValue, 2)}\n`)
      return
    }
    const lines = text()
    const all = typeof lines === 'string' ? [lines] : lines
    if (all.length > 0) writeStandardOutput(`${all.join('\n')}\n`)
  }

  /** Writes a line for a person who watches. */
  note(text: string): void {
    if (!this.quiet && !this.json) writeStandardError(`${text}\n`)
  }

  /** Writes a line that matters also to who watches nothing. */
  warn(text: string): void {
    if (!this.json) process.stderr.write(`loam: warning: ${text}\n`)
  }

  /** Writes an error: one line and a hint, or one JSON object. */
  error(error: unknown): LoamError {
    const failure = describe(error)
    if (this.json) {
      const { code, kind, message, hint, details } = failure
      writeStandardError(`${JSON.stringify({ error: { code, kind, message, hint, details } }, jsonValue)}\n`)
    } else {
      writeStandardError(`loam: ${failure.message}\n`)
      if (failure.hint !== undefined) writeStandardError(`hint: ${failure.hint}\n`)
    }
    if (process.env['LOAM_DEBUG'] !== undefined) writeStandardError(`${stackOf(failure)}\n`)
    return failure
  }
}

/** An error that is not ours is a defect: the message says so, and how to see more. */
function describe(error: unknown): LoamError {
  if (isLoamError(error)) return error
  const failure = toLoamError(error, 'loam')
  if (failure.code !== 'SYSTEM') return failure
  return new LoamError('SYSTEM', failure.message, {
    cause: error,
    hint: 'LOAM_DEBUG=1 shows where it came from.',
  })
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : ''
  return `${(error.stack ?? '').split('\n').map(redact).join('\n')}${cause}`
}

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  return value instanceof Map ? Object.fromEntries(value) : value
}
