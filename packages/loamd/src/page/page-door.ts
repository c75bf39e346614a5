import type { RequestListener } from 'node:http'
import type { Log } from '../log.ts'
import { readPageFiles } from './page-files.ts'
import { PageServer } from './page-server.ts'

export interface PageDoorOptions {
  /** Port to listen on; undefined: any free one. */
  readonly port: number | undefined
  readonly answer: RequestListener
  readonly log: Log
}

/** Access to the page: closed until a client requests it. */
export class PageDoor {
  readonly #options: PageDoorOptions
  #opening: Promise<PageServer> | undefined

  constructor(options: PageDoorOptions) {
    this.#options = options
  }

  /** Serves the page, if it is not being served, and returns its address with the token. @throws STORE_BUSY */
  async open(): Promise<string> {
    this.#opening ??= this.#start()
    const opening = this.#opening
    try {
      const { address } = await opening
      return address
    } catch (error) {
      // The next call tries again.
      if (this.#opening === opening) this.#opening = undefined
      throw error
    }
  }

  /** Ends serving the page, which makes its token invalid. Returns whether it was served. */
  async close(): Promise<boolean> {
    const opening = this.#opening
    this.#opening = undefined
    if (opening === undefined) return false
    try {
      using server = await opening
      this.#options.log.info('the page is closed', { port: server.port })
      return true
    } catch {
      return false
    }
  }

  async #start(): Promise<PageServer> {
    const { port, answer, log } = this.#options
    const server = await PageServer.start({ port, answer, files: await readPageFiles() })
    // Without the address: it has the token.
    log.info('the page is open', { port: server.port })
    return server
  }
}
