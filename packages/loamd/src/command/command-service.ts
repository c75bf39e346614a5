import type { Loam } from 'loamfs'
import {
  currentRequest,
  type FileRights as Rights,
  loadCommandLine,
  toLoamError,
  withRequest,
} from 'loamfs/internal'
import type { CommandConnection } from '../http/server.ts'
import type { Log } from '../log.ts'
import type { DaemonState } from '../operations/context.ts'
import { readRequestContext, REQUEST_ID } from '../request-context.ts'
import { CallerHost } from './caller-host.ts'
import { Channel } from './channel.ts'
import { type CommandRequest, parseClientMessage, parseRequest, type SelfReason } from './messages.ts'
import { rightsOfPeer, withRightsOf } from './peer.ts'
import { findOwnVariable, findProcessVariable, identify } from './surroundings.ts'

/** Time limit for the client's request. */
const REQUEST_LIMIT_MS = 10_000
const ACCEPTED = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: loam-command\r\n'

export interface CommandServiceOptions {
  /** The open store. */
  readonly loam: Loam
  readonly version: string
  /** The list of commands in progress. */
  readonly requests: DaemonState['requests']
  readonly log: Log
}

/** Runs command lines of clients in this process, on the open store. */
export class CommandService {
  readonly #options: CommandServiceOptions
  readonly #surroundings = identify()

  constructor(options: CommandServiceOptions) {
    this.#options = options
  }

  /** Serves one connection until its command has ended or its client has disconnected. */
  readonly accept = ({ request: upgrade, socket, head }: CommandConnection): void => {
    const context = readRequestContext((name) => upgrade.headers[name])
    const rights = rightsOfPeer(socket)
    if (rights === undefined) {
      socket.destroy()
      return
    }
    let host: CallerHost | undefined
    const begin = (line: string) => {
      clearTimeout(limit)
      const request = parseRequest(line)
      if (request === undefined) return undefined
      host = withRequest(context, () => this.#begin(request, channel, rights))
      return host
    }
    const channel = new Channel(
      socket,
      (line) => {
        const message = host === undefined ? undefined : parseClientMessage(line)
        if (message !== undefined) host?.accept(message)
        else if (host !== undefined || begin(line) === undefined) channel.close()
      },
      () => {
        clearTimeout(limit)
        host?.leave()
      },
    )
    const limit = setTimeout(() => {
      channel.close()
    }, REQUEST_LIMIT_MS)
    socket.write(`${ACCEPTED}${REQUEST_ID}: ${context.requestId}\r\n\r\n`)
    channel.read(head)
  }

  #begin(request: CommandRequest, channel: Channel, rights: Rights): CallerHost {
    const { loam } = this.#options
    const host = new CallerHost({ request, rights, channel, loam })
    void this.#run(request, host, channel, rights)
    return host
  }

  async #run(request: CommandRequest, host: CallerHost, channel: Channel, rights: Rights): Promise<void> {
    const { loam, log, version, requests } = this.#options
    const startMs = performance.now()
    const { requestId: id } = currentRequest()
    requests.set(host, { id, operation: 'command', startedAtMs: Date.now() })
    try {
      const mismatch = this.#findMismatch(request)
      if (mismatch !== undefined) {
        channel.end({ self: mismatch })
        return
      }
      const { runCommandLine } = await loadCommandLine()
      const status = await withRightsOf(rights, loam, async () => runCommandLine(request.args, version, host))
      channel.end({ exit: status })
      log.debug('ran a command', { status, durationMs: performance.now() - startMs })
    } catch (error) {
      if (host.selfReason !== undefined) {
        channel.end({ self: host.selfReason })
        return
      }
      log.error('run a command', { error: toLoamError(error, 'run a command').message })
      channel.close()
    } finally {
      requests.delete(host)
    }
  }

  /** Returns the reason if a command line cannot be run here as its client would run it. */
  #findMismatch(request: CommandRequest): SelfReason | undefined {
    const { version } = this.#options
    if (request.version !== version)
      return { why: 'version', text: `it has version ${version}, and this is ${request.version}` }
    if (request.surroundings !== this.#surroundings)
      return { why: 'surroundings', text: 'it has another root directory or other namespaces' }
    const variable = findProcessVariable(request)
    if (variable !== undefined)
      return { why: 'process', text: `${variable} is another one in its environment` }
    const file = findOwnVariable(request)
    return file === undefined
      ? undefined
      : { why: 'process', text: `only this process has what ${file} names` }
  }
}
