// A daemon in this process, and requests to its socket, in a temporary directory.
import { mkdtempSync, rmSync } from 'node:fs'
import { type IncomingHttpHeaders, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type BuiltImage, writeOciLayout } from 'loamfs/testing'
import { Daemon, Log } from '../../src/index.ts'

/** An answer; its body is parsed if it is JSON. */
export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: unknown
  readonly text: string
}

/** A daemon on a store of its own. */
export class HttpWorld implements AsyncDisposable {
  readonly folder: string
  readonly socket: string
  readonly #daemon: Daemon
  readonly lines: string[]

  private constructor(folder: string, daemon: Daemon, lines: string[]) {
    this.folder = folder
    this.socket = daemon.httpSocketPath
    this.#daemon = daemon
    this.lines = lines
  }

  /** Starts a daemon with these settings; `root` may be a store that another one serves, too. */
  static async start({ root, ...flags }: Readonly<Record<string, string>> = {}): Promise<HttpWorld> {
    const folder = mkdtempSync(join(tmpdir(), 'loam-http-'))
    const lines: string[] = []
    try {
      const daemon = await Daemon.start({
        flags: { ...flags, root: root ?? join(folder, 'root'), state: join(folder, 'state') },
        configFile: undefined,
        socketPath: join(folder, 'grpc.sock'),
        isRemote: false,
        env: { HOME: folder },
        log: new Log('debug', (line) => lines.push(line)),
      })
      return new HttpWorld(folder, daemon, lines)
    } catch (error) {
      rmSync(folder, { recursive: true })
      throw error
    }
  }

  /** Sends a request; a body that is neither a text nor bytes is sent as JSON. */
  async send(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    const asked = request(
      { socketPath: this.socket, method, path, headers: { 'content-type': 'application/json', ...headers } },
      (response) => {
        const { statusCode: status = 0, headers: answered } = response
        const read = async () => {
          const all = await text(response)
          const isJson = ['application/json', 'application/problem+json'].includes(
            answered['content-type'] ?? '',
          )
          resolve({
            status,
            headers: answered,
            body: isJson && all !== '' ? JSON.parse(all) : undefined,
            text: all,
          })
        }
        read().catch(reject)
      },
    )
    asked.on('error', reject)
    const isReady = body === undefined || typeof body === 'string' || Buffer.isBuffer(body)
    asked.end(isReady ? body : JSON.stringify(body))
    return promise
  }

  /** Writes an image to a layout, and returns its name. */
  layoutOf(image: BuiltImage): string {
    writeOciLayout(join(this.folder, 'layout'), { x: image })
    return `oci:${join(this.folder, 'layout')}:x`
  }

  /** Opens a bare connection. */
  connect(): Socket {
    return connect(this.socket)
  }

  /** Sends bytes unchanged, and returns the whole answer until the daemon closes the connection. */
  async sendBytes(bytes: string): Promise<string> {
    const socket = this.connect()
    socket.on('error', () => undefined)
    socket.write(bytes)
    return text(socket)
  }

  /** Stops the daemon; the directory stays until the world is disposed of. */
  async stop(): Promise<void> {
    await this.#daemon[Symbol.asyncDispose]()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon[Symbol.asyncDispose]()
    rmSync(this.folder, { recursive: true })
  }
}
