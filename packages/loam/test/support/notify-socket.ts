// The socket of a service manager: receives notifications of programs. Node has no datagrams of unix sockets.
import { closeSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import koffi from 'koffi'

const AF_UNIX = 1
const SOCK_DGRAM_NONBLOCK = 2 | 0o4000
const LIMIT_MS = 60_000

const library = koffi.load('libc.so.6')
const socket = library.func('int socket(int domain, int type, int protocol)')
const bind = library.func('int bind(int fd, const void *address, uint32_t size)')
const recv = library.func('long recv(int fd, void *bytes, size_t size, int flags)')

/** Receives messages at a path, or at an abstract name that begins with `@`. */
export class NotifySocket implements Disposable {
  readonly path: string
  readonly #fd: number
  /** All messages so far, in their order. */
  readonly messages: string[] = []

  constructor(path: string) {
    this.path = path
    this.#fd = Number(socket(AF_UNIX, SOCK_DGRAM_NONBLOCK, 0))
    const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), name])
    if (bind(this.#fd, address, address.length) !== 0) throw new Error(`bind ${path}: errno ${koffi.errno()}`)
  }

  /** Reads all messages that have arrived. */
  receive(): string[] {
    const bytes = Buffer.alloc(4096)
    for (;;) {
      const size = Number(recv(this.#fd, bytes, bytes.length, 0))
      if (size < 0) return this.messages
      this.messages.push(bytes.toString('utf8', 0, size))
    }
  }

  /** Waits for a message that matches, beyond the first `after` messages. Returns it. */
  async waitFor(pattern: RegExp, after = 0): Promise<string> {
    for (const end = Date.now() + LIMIT_MS; Date.now() < end; await sleep(20)) {
      const found = this.receive()
        .slice(after)
        .find((message) => pattern.test(message))
      if (found !== undefined) return found
    }
    throw new Error(`waited in vain for ${String(pattern)} among ${JSON.stringify(this.messages)}`)
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
    if (!this.path.startsWith('@')) rmSync(this.path, { force: true })
  }
}
