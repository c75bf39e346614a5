import { writeSync } from 'node:fs'
import { currentRequest, redact } from 'loamfs/internal'

/** Levels of the log, the most important first. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

type Fields = Readonly<Record<string, string | number | boolean | undefined>>

/** Writes events as lines of JSON, for journald and other readers. */
export class Log {
  readonly #level: number
  readonly #write: (line: string) => void

  constructor(level: LogLevel, write: (line: string) => void = createStderrWriter()) {
    this.#level = LOG_LEVELS.indexOf(level)
    this.#write = write
  }

  error(message: string, fields: Fields = {}): void {
    this.#log('error', message, fields)
  }

  warn(message: string, fields: Fields = {}): void {
    this.#log('warn', message, fields)
  }

  info(message: string, fields: Fields = {}): void {
    this.#log('info', message, fields)
  }

  debug(message: string, fields: Fields = {}): void {
    this.#log('debug', message, fields)
  }

  #log(level: LogLevel, message: string, fields: Fields): void {
    if (LOG_LEVELS.indexOf(level) > this.#level) return
    const { requestId, trace } = currentRequest()
    const traceId = trace?.parent.split('-')[1]
    // Text from clients and registries is cut and escaped, also if it is not an error.
    const shown = Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [
        name,
        typeof value === 'string' ? redact(value) : value,
      ]),
    )
    this.#write(
      `${JSON.stringify({ time: new Date().toISOString(), level, message, requestId, traceId, ...shown })}\n`,
    )
  }
}

const STDERR = 2

/** Writes lines to standard error. A line for which a disk has no room, or that nobody reads, is lost: no reason for a daemon to end. */
function createStderrWriter(): (line: string) => void {
  let isCut = false
  return (line) => {
    try {
      const bytes = Buffer.from(isCut ? `\n${line}` : line)
      isCut = writeSync(STDERR, bytes) < bytes.length
    } catch {
      // The next one may find room.
    }
  }
}
