import { isErrno, sendDatagram } from 'loamfs/internal'
import type { Log } from '../log.ts'

/** How often and when a message is sent again while the queue of the receiver is full. */
const RETRY_LIMIT = 50
const RETRY_PAUSE_MS = 100

/** Lines that a service manager understands, as name and value (sd_notify(3)). */
export type Notification = Readonly<Record<string, string | number>>

/**
 * Notifies the service manager that has started this process; does nothing without one. A message that cannot be sent is logged once and
 * otherwise ignored: the daemon serves, whether or not it is watched. Messages arrive in the order of the calls.
 */
export class Notifier {
  readonly #socket: string | undefined
  readonly #log: Log
  readonly #waiting: string[] = []
  #timer: NodeJS.Timeout | undefined
  #failures = 0
  #hasComplained = false

  constructor(env: Readonly<Record<string, string | undefined>>, log: Log) {
    const socket = env['NOTIFY_SOCKET']
    this.#socket = socket === '' ? undefined : socket
    this.#log = log
  }

  /** Reports that the daemon serves, and its process ID: after a hand-over it is not the process that was started. */
  ready(status: string): void {
    this.send({ READY: 1, STATUS: status, MAINPID: process.pid })
  }

  /** Reports that settings are read again; `ready` reports the end of that. */
  reloading(): void {
    this.send({ RELOADING: 1, MONOTONIC_USEC: monotonicMicroseconds(), STATUS: 'reading the settings' })
  }

  stopping(status: string): void {
    this.send({ STOPPING: 1, STATUS: status })
  }

  /** Sends lines. The last messages may be lost when the process ends before a full queue has room. */
  send(notification: Notification): void {
    if (this.#socket === undefined) return
    const lines = Object.entries(notification).map(([name, value]) => `${name}=${oneLine(value)}`)
    this.#waiting.push(lines.join('\n'))
    if (this.#timer === undefined) this.#flush(this.#socket)
  }

  #flush(socket: string): void {
    this.#timer = undefined
    for (let text = this.#waiting[0]; text !== undefined; text = this.#waiting[0]) {
      try {
        sendDatagram(socket, text)
      } catch (error) {
        if (isErrno(error, 'EAGAIN') && this.#failures < RETRY_LIMIT) {
          this.#failures += 1
          this.#timer = setTimeout(() => {
            this.#flush(socket)
          }, RETRY_PAUSE_MS).unref()
          return
        }
        this.#complain(error)
      }
      this.#failures = 0
      this.#waiting.shift()
    }
  }

  #complain(error: unknown): void {
    if (this.#hasComplained) return
    this.#hasComplained = true
    this.#log.warn('notify the service manager', {
      error: error instanceof Error ? error.message : String(error),
    })
  }
}

/** A line ends a message's line, also one in an error that a status shows. */
function oneLine(value: string | number): string {
  return String(value).replace(/[\0-\x1f\x7f]+/g, ' ')
}

/** CLOCK_MONOTONIC, which Node's hrtime reads. */
function monotonicMicroseconds(): string {
  return String(process.hrtime.bigint() / 1000n)
}
