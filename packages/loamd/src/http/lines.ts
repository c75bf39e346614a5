import type { ServerResponse } from 'node:http'
import { MAX_WAITING_BYTES } from './limits.ts'

/** Media type of lines of JSON. */
export const LINES_TYPE = 'application/x-ndjson'

/** Writes lines of JSON to a client. The amount of unread data is limited: events are dropped for a client that reads too slowly. */
export class Lines {
  readonly #response: ServerResponse
  #dropped = 0

  constructor(response: ServerResponse) {
    this.#response = response
    response.writeHead(200, { 'content-type': LINES_TYPE, 'cache-control': 'no-store' })
    // A client that waits for the first event knows that its request was accepted.
    response.flushHeaders()
  }

  /** Writes a line that may be dropped. `{"dropped": n}` before a line is the number of dropped lines. */
  event(line: object): void {
    if (this.#response.writableLength > MAX_WAITING_BYTES) {
      this.#dropped += 1
      return
    }
    this.#tellDropped()
    this.#write(line)
  }

  /** Writes a line that is never dropped: its client waits for it. */
  tell(line: object): void {
    this.#tellDropped()
    this.#write(line)
  }

  /** Writes the last line. */
  end(line: object): void {
    this.#tellDropped()
    this.#write(line)
    this.#response.end()
  }

  #tellDropped(): void {
    if (this.#dropped > 0) this.#write({ dropped: this.#dropped })
    this.#dropped = 0
  }

  #write(line: object): void {
    // `writable` of a response stays true after its end.
    if (this.#response.writableEnded || this.#response.destroyed) return
    this.#response.write(`${JSON.stringify(line, jsonValue)}\n`)
  }
}

/** Converts values that JSON cannot represent. */
export function jsonValue(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value
}
