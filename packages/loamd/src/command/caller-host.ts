import { constants } from 'node:os'
import { LoamError, type Loam, type LoamOptions, readConfiguration } from 'loamfs'
import {
  capabilitiesOf,
  type FileRights,
  type Host,
  type HostOutput,
  loamForCaller,
  OwnProcessNeeded,
} from 'loamfs/internal'
import type { Channel } from './channel.ts'
import type { ClientMessage, CommandRequest, SelfReason } from './messages.ts'
import { findOtherRights, ownRights } from './peer.ts'
import { findOwnFile } from '../own-files.ts'

type RunStarter = NonNullable<Host['starter']>

/** A wait for the client's answer, or for the status of its program. One at a time. */
interface Pending {
  readonly accept: (message: ClientMessage) => void
  /** The client has disconnected. */
  readonly leave: () => void
}

export interface CallerHostOptions {
  readonly request: CommandRequest
  /** The rights of its process, as the kernel says. */
  readonly rights: FileRights
  readonly channel: Channel
  readonly loam: Loam
}

/** The process of a client, for a command that runs in this one. Nothing of it is kept after the command. */
export class CallerHost implements Host {
  readonly env: Host['env']
  readonly cwd: string
  readonly userId: number
  readonly stdin: Host['stdin']
  readonly stdout: HostOutput
  readonly stderr: HostOutput
  readonly starter: RunStarter
  exitStatus = 0
  /** Why the client has to run the command line itself. */
  selfReason: SelfReason | undefined
  readonly #options: CallerHostOptions
  readonly #interrupted = new AbortController()
  #pending: Pending | undefined
  /** Size of the terminal of standard error. */
  #terminal: { readonly columns: number | undefined; readonly rows: number | undefined }
  /** Words that open the same store. */
  #storeWords: readonly string[] = []

  constructor(options: CallerHostOptions) {
    const { request, rights, channel } = options
    const { env, cwd, terminals, columns, rows } = request
    const terminal = () => this.#terminal
    this.#terminal = { columns: columns[1], rows: rows[1] }
    this.#options = options
    this.env = env
    this.cwd = cwd
    this.userId = rights.userId
    this.stdin = { isTerminal: terminals[0] }
    this.stdout = {
      isTerminal: terminals[1],
      columns: columns[0],
      rows: rows[0],
      get isBehind() {
        return channel.isBehind
      },
      write: (text) => {
        channel.send(
          typeof text === 'string' ? { out: text } : { outBytes: Buffer.from(text).toString('base64') },
        )
      },
    }
    this.stderr = {
      isTerminal: terminals[2],
      get columns() {
        return terminal().columns
      },
      get rows() {
        return terminal().rows
      },
      get isBehind() {
        return channel.isBehind
      },
      write: (text) => {
        if (channel.isOpen) channel.send({ err: Buffer.from(text).toString() })
      },
    }
    this.starter = {
      capabilities: capabilitiesOf(BigInt(`0x${request.capabilities ?? '0'}`)),
      start: async (program, container) => this.#start(program, container),
    }
  }

  /** Handles a message of the client. */
  accept(message: ClientMessage): void {
    if ('size' in message) this.#terminal = { columns: message.size[0], rows: message.size[1] }
    else if (!('signal' in message)) this.#pending?.accept(message)
    else if (Object.hasOwn(constants.signals, message.signal)) this.#interrupted.abort(message.signal)
  }

  /** The client has disconnected: its command is canceled, as by a signal. */
  leave(): void {
    this.#interrupted.abort('the client is gone')
    this.#pending?.leave()
  }

  /** While a program runs, the client passes the signals to it. */
  readonly watchSignals: Host['watchSignals'] = () => ({
    signal: this.#interrupted.signal,
    release: () => undefined,
  })

  readonly openLoam = async (options: LoamOptions): Promise<Loam> => {
    const { loam } = this.#options
    const served = loam.store.configuration.values
    const { root, state } = readConfiguration(options).values
    for (const [name, own, asked] of [
      ['root', served.root, root],
      ['state', served.state, state],
    ] as const) {
      if (own !== asked)
        this.handBack({ why: 'store', text: `it serves the ${name} ${own}, and this is ${asked}` })
    }
    this.#storeWords = ['--root', root, '--state', state]
    return loamForCaller(loam, options)
  }

  readonly checkWords = async (words: readonly string[]): Promise<void> => {
    const word = await findOwnFile(words, this.cwd)
    if (word !== undefined)
      this.handBack({ why: 'process', text: `only this process has what ${word} names` })
  }

  readonly checkCommand = (names: readonly string[]): void => {
    const reason = findOtherRights(this.#options.rights, ownRights(), names)
    if (reason !== undefined) this.handBack(reason)
  }

  readonly requireOwnProcess = (): void => {
    this.handBack({ why: 'process', text: 'the command needs the process of its caller' })
  }

  /** Throws the error that makes the client run the command line itself. */
  handBack(reason: SelfReason): never {
    this.selfReason = reason
    throw new OwnProcessNeeded(reason.text)
  }

  readonly askSecret = async (): Promise<string> => this.#needsOwnStreams()

  readonly readInput = async (): Promise<string> => this.#needsOwnStreams()

  /** A password does not pass through the daemon. */
  #needsOwnStreams(): never {
    this.handBack({ why: 'process', text: 'the command reads the standard input of its caller' })
  }

  readonly protectMemory = (): void => undefined

  readonly ask = async (question: string, signal: AbortSignal): Promise<string> => {
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    const leave = () => {
      reject(new LoamError('CANCELED', 'ask: canceled'))
    }
    signal.addEventListener('abort', leave)
    this.#pending = {
      accept: (message) => {
        if ('answer' in message) resolve(message.answer)
      },
      leave,
    }
    try {
      this.#options.channel.send({ ask: question })
      return await promise
    } finally {
      this.#pending = undefined
      signal.removeEventListener('abort', leave)
    }
  }

  async #start(
    { file, args, env }: Parameters<RunStarter['start']>[0],
    { id, keep }: Parameters<RunStarter['start']>[1],
  ): Promise<number | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()
    this.#pending = {
      accept: (message) => {
        if ('status' in message) resolve(message.status)
        if ('failed' in message) reject(new LoamError('RUNTIME_FAILED', `run ${file}: ${message.failed}`))
      },
      leave: () => {
        resolve(undefined)
      },
    }
    try {
      const cleanUp = keep ? [] : ['--quiet', ...this.#storeWords, 'destroy', id]
      this.#options.channel.send({ run: { file, args, env, cleanUp } })
      return await promise
    } finally {
      this.#pending = undefined
    }
  }
}
