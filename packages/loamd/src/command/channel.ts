import { isUtf8 } from 'node:buffer'
import type { Socket } from 'node:net'
import { LoamError } from 'loamfs'
import { type DaemonMessage, MAX_MESSAGE_BYTES } from './messages.ts'

/** Limit of unread bytes of a client, before its command is canceled. One message may be longer. */
const MAX_UNREAD_BYTES = 16 << 20
/** Limit of unread bytes, before progress is not drawn any more. */
const MAX_DRAWN_BYTES = 256 << 10
const NEWLINE = 0x0a

/** A connection with one client: lines of JSON in both directions. */
export class Channel {
  readonly #socket: Socket
  readonly #onLine: (line: string) => void
  #parts: Buffer[] = []
  #partBytes = 0

  /** Takes over a connection. `onLine` gets each line; `onClose` is called once, when the client has disconnected. */
  constructor(socket: Socket, onLine: (line: string) => void, onClose: () => void) {
    this.#socket = socket
    this.#onLine = onLine
    socket.on('data', (chunk: Buffer) => {
      this.read(chunk)
    })
    // A client that has only closed its side has disconnected, too: it has one socket for both directions.
    socket.on('end', () => socket.destroy())
    socket.once('close', onClose)
  }

  /** Whether the client has much unread output. */
  get isBehind(): boolean {
    return this.#socket.writableLength > MAX_DRAWN_BYTES
  }

  get isOpen(): boolean {
    return this.#socket.writable
  }

  /** Handles bytes of the client. */
  read(chunk: Buffer): void {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const line = Buffer.concat([...this.#parts, chunk.subarray(start, end)])
      this.#parts = []
      this.#partBytes = 0
      start = end + 1
      if (isUtf8(line)) this.#onLine(line.toString('utf8'))
      else this.close()
    }
    if (start === chunk.length) return
    this.#parts.push(chunk.subarray(start))
    this.#partBytes += chunk.length - start
    if (this.#partBytes > MAX_MESSAGE_BYTES) this.close()
  }

  /** @throws OUTPUT_CLOSED when the client has disconnected, or does not read */
  send(message: DaemonMessage): void {
    if (this.#socket.writableLength > MAX_UNREAD_BYTES) this.close()
    if (!this.isOpen)
      throw new LoamError('OUTPUT_CLOSED', 'write to the client: it is gone, or does not read')
    this.#socket.write(`${JSON.stringify(message)}\n`)
  }

  /** Sends the last message, and closes the connection when the client has read it. */
  end(message: DaemonMessage): void {
    if (this.isOpen) this.#socket.end(`${JSON.stringify(message)}\n`)
  }

  close(): void {
    this.#socket.destroy()
  }
}
