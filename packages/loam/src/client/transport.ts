import { statSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import * as v from 'valibot'
import {
  type Conversation,
  type Conversations,
  CONVERSATIONS,
  type Download,
  type Downloads,
  DOWNLOADS,
  type EventOf,
  type Operation,
  type OperationName,
  OPERATIONS,
  type Operations,
  type ReplyOf,
  type RequestOf,
  RESULT_TRAILER,
  type ResultOf,
  SUBSCRIPTIONS,
  type Upload,
  type Uploads,
  UPLOADS,
} from '../api/index.ts'
import { isErrno, isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import { type LineLimits, readLines } from '../streams/index.ts'
import { Connections } from './connections.ts'
import { canceled, eventsEnded, lost, readProblem } from './failure.ts'
import { StreamBody } from './stream-body.ts'

const LINES_TYPE = 'application/x-ndjson'
/** Limit of an answer that is not a stream, in bytes: a longer one is a mistake. */
const MAX_ANSWER_BYTES = 256 << 20
/** The longest line of an answer, which may hold a whole result. A last line without an end is incomplete: the daemon ended while it wrote. */
const LINE_LIMITS: LineLimits = {
  maxBytes: 256 << 20,
  tooLong: () => new LoamError('INTERNAL', 'read a line of the daemon: it is too long'),
  notText: () => new LoamError('INTERNAL', 'read a line of the daemon: it is not UTF-8'),
  isEndOptional: false,
}
/** How long a daemon may take to end a conversation that this side has given up. */
const GIVE_UP_LIMIT_MS = 10_000

/** Options of a call. */
export interface CallOptions<Event = never> {
  readonly signal?: AbortSignal | undefined
  readonly onEvent?: ((event: Event) => void) | undefined
}

/** A request to a daemon. */
interface Question<Result, Event> {
  readonly name: string
  readonly operation: Pick<Operation, 'path'> & {
    readonly method: string
    readonly result: v.GenericSchema<unknown, Result>
    readonly event?: v.GenericSchema<unknown, Event>
  }
  readonly request: unknown
  readonly body?: StreamBody | undefined
}

interface SendOptions {
  readonly signal: AbortSignal | undefined
  /** Media type of the answer, if it is not JSON. */
  readonly accept?: string | undefined
  readonly body?: StreamBody | undefined
}

/** Options of a stream of events. */
export interface EventStreamOptions {
  /** Ends the stream. */
  readonly signal?: AbortSignal | undefined
  /** Called with the number of events that the daemon left out because this client read too slowly. */
  readonly onDropped?: ((events: number) => void) | undefined
}

/** Calls the operations of a daemon over its socket. */
export class Transport {
  readonly #socket: string
  readonly #connections: Connections

  constructor(socket: string) {
    this.#socket = socket
    this.#connections = new Connections(socket)
  }

  /** Calls an operation, and returns its result. @throws the errors of the operation; DAEMON_UNAVAILABLE, DAEMON_LOST, CANCELED */
  async call<Name extends OperationName>(
    name: Name,
    request: RequestOf<Operations[Name]>,
    { signal, onEvent }: CallOptions<EventOf<Operations[Name]>> = {},
  ): Promise<ResultOf<Operations[Name]>> {
    // The table relates the types of each operation to its name, which the compiler cannot see.
    const operation = OPERATIONS[name] as unknown as Operation<
      unknown,
      ResultOf<Operations[Name]>,
      EventOf<Operations[Name]>
    >
    return this.#ask({ name, operation, request }, { signal, onEvent })
  }

  /** Calls an operation that takes a stream, which is closed afterwards. @throws as `call`, and what the stream throws */
  async upload<Name extends keyof Uploads>(
    name: Name,
    request: RequestOf<Uploads[Name]>,
    stream: AsyncIterable<Uint8Array>,
    options: CallOptions<EventOf<Uploads[Name]>>,
  ): Promise<ResultOf<Uploads[Name]>> {
    const operation = UPLOADS[name] as unknown as Upload<
      unknown,
      ResultOf<Uploads[Name]>,
      EventOf<Uploads[Name]>
    >
    const body = new StreamBody(stream)
    try {
      return await this.#ask({ name, operation, request, body }, options)
    } catch (error) {
      throw body.failure ?? error
    } finally {
      body.stop()
    }
  }

  /**
   * Calls an operation in which this process has a part: `reply` answers what the daemon asks for by an event; undefined for other events. After the
   * signal has fired it is not called: the body ends without a reply, by which the daemon knows that nothing was done for it, and undoes the rest.
   */
  async converse<Name extends keyof Conversations>(
    name: Name,
    request: RequestOf<Conversations[Name]>,
    reply: (event: EventOf<Conversations[Name]>) => Promise<ReplyOf<Conversations[Name]>> | undefined,
    signal: AbortSignal,
  ): Promise<ResultOf<Conversations[Name]>> {
    const operation = CONVERSATIONS[name] as unknown as Conversation<
      unknown,
      ResultOf<Conversations[Name]>,
      EventOf<Conversations[Name]>
    >
    if (signal.aborted) throw canceled(name, signal)
    const replied = Promise.withResolvers<unknown>()
    const body = new StreamBody(linesOf([request, replied.promise]))
    const limit = new AbortController()
    let timer: NodeJS.Timeout | undefined
    const giveUp = () => {
      replied.resolve(undefined)
      timer = setTimeout(() => {
        limit.abort()
      }, GIVE_UP_LIMIT_MS)
    }
    signal.addEventListener('abort', giveUp)
    const onEvent = (event: EventOf<Conversations[Name]>) => {
      if (!signal.aborted) reply(event)?.then(replied.resolve, replied.reject)
    }
    try {
      return await this.#ask({ name, operation, request: undefined, body }, { signal: limit.signal, onEvent })
    } catch (error) {
      if (signal.aborted) throw canceled(name, signal)
      throw body.failure ?? error
    } finally {
      signal.removeEventListener('abort', giveUp)
      clearTimeout(timer)
      body.stop()
    }
  }

  async #ask<Result, Event>(
    { name, operation, request, body }: Question<Result, Event>,
    { signal, onEvent }: CallOptions<Event>,
  ): Promise<Result> {
    const { event: eventSchema } = operation
    const wantsLines = onEvent !== undefined && eventSchema !== undefined
    const accept = wantsLines ? LINES_TYPE : undefined
    const response = await this.#send(name, operation, request, { signal, accept, body })
    if (!wantsLines) return parse(name, operation.result, await this.#read(name, response, signal))
    for await (const line of this.#lines(name, response, signal)) {
      if ('event' in line) onEvent(parse(name, eventSchema, line['event']))
      if ('error' in line) throw readProblem(name, line['error'])
      if ('result' in line) return parse(name, operation.result, line['result'])
    }
    throw lost(name, this.#socket)
  }

  /** Calls an operation that answers with a stream, and yields its bytes. @throws as `call` */
  async *download<Name extends keyof Downloads>(
    name: Name,
    request: RequestOf<Downloads[Name]>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, void> {
    const response = await this.#send(name, DOWNLOADS[name], request, { signal })
    try {
      for await (const chunk of response) yield chunk as Buffer
    } catch (error) {
      throw this.#failure(name, error, signal)
    }
  }

  /**
   * Calls an operation that answers with a stream, writes all of it to an output, which it ends, and returns its result. The output is opened when the
   * daemon has begun its answer: an operation that fails touches nothing. @throws as `call`, and what the output throws
   */
  async downloadTo<Name extends keyof Downloads>(
    name: Name,
    request: RequestOf<Downloads[Name]>,
    openOutput: () => Writable,
    signal: AbortSignal | undefined,
  ): Promise<ResultOf<Downloads[Name]>> {
    const download = DOWNLOADS[name] as unknown as Download<unknown, ResultOf<Downloads[Name]>>
    const response = await this.#send(name, download, request, { signal })
    try {
      await pipeline(response, openOutput())
    } catch (error) {
      if (isErrno(error, 'ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE')) throw this.#failure(name, error, signal)
      throw toLoamError(error, name, signal)
    }
    const { [RESULT_TRAILER]: text } = response.trailers
    if (download.result === undefined) return undefined as ResultOf<Downloads[Name]>
    return parse(name, download.result, parseJson(name, decodeURIComponent(text ?? '')))
  }

  /** Yields the events of the daemon until the signal fires or the loop ends. @throws DAEMON_LOST when the daemon ends */
  async *events(
    filter: RequestOf<(typeof SUBSCRIPTIONS)['daemon.events']>,
    { signal, onDropped }: EventStreamOptions,
  ): AsyncGenerator<EventOf<(typeof SUBSCRIPTIONS)['daemon.events']>, void> {
    const subscription = SUBSCRIPTIONS['daemon.events']
    const response = await this.#send('daemon.events', subscription, filter, { signal })
    try {
      for await (const line of this.#lines('daemon.events', response, signal)) {
        if ('event' in line) yield parse('daemon.events', subscription.event, line['event'])
        if ('dropped' in line) onDropped?.(Number(line['dropped']))
      }
    } catch (error) {
      throw isLoamError(error, 'DAEMON_LOST') ? eventsEnded(this.#socket, error) : error
    }
    throw eventsEnded(this.#socket)
  }

  /** @throws PERMISSION_DENIED if the daemon belongs to another user, who could not let this process start what it has prepared */
  requireOwnUser(name: string): void {
    const owner = statSync(this.#socket, { throwIfNoEntry: false })?.uid
    if (owner === undefined || owner === process.geteuid?.()) return
    throw new LoamError('PERMISSION_DENIED', `${name}: loamd at ${this.#socket} belongs to user ${owner}`, {
      hint: 'Run the container as that user, or by a store of your own (openLoam).',
    })
  }

  /** Closes all connections, which cancels calls in progress. */
  close(): void {
    this.#connections.close()
  }

  async #send(
    name: string,
    { method, path }: Pick<Question<unknown, unknown>['operation'], 'method' | 'path'>,
    request: unknown,
    { signal, accept, body: stream }: SendOptions,
  ): Promise<IncomingMessage> {
    if (signal?.aborted === true) throw canceled(name, signal)
    const body = method === 'POST' && stream === undefined ? JSON.stringify(request) : undefined
    const response = await this.#connections.send({
      name,
      options: {
        method,
        path: body === undefined ? `${path}${queryOf(request)}` : path,
        headers: {
          host: 'loamd',
          ...(accept === undefined ? {} : { accept }),
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
          ...(stream === undefined ? {} : { 'content-type': 'application/octet-stream' }),
        },
      },
      end: (asked) => {
        if (stream === undefined) asked.end(body)
        else stream.sendTo(asked)
      },
      signal,
    })
    // Errors of a stream that is not read any more.
    response.on('error', () => undefined)
    if ((response.statusCode ?? 0) < 400) return response
    throw readProblem(name, await this.#read(name, response, signal))
  }

  async #read(name: string, response: IncomingMessage, signal: AbortSignal | undefined): Promise<unknown> {
    const chunks: Buffer[] = []
    let bytes = 0
    try {
      for await (const chunk of response) {
        const part = Buffer.from(chunk as Buffer)
        bytes += part.length
        if (bytes > MAX_ANSWER_BYTES) throw new LoamError('INTERNAL', `${name}: the answer is too large`)
        chunks.push(part)
      }
    } catch (error) {
      throw this.#failure(name, error, signal)
    }
    return parseJson(name, Buffer.concat(chunks).toString('utf8'))
  }

  async *#lines(
    name: string,
    response: IncomingMessage,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Readonly<Record<string, unknown>>, void> {
    try {
      for await (const line of readLines(response, LINE_LIMITS)) {
        const value = parseJson(name, line)
        if (typeof value === 'object' && value !== null) yield value as Readonly<Record<string, unknown>>
      }
    } catch (error) {
      throw this.#failure(name, error, signal)
    } finally {
      if (!response.complete) response.destroy()
    }
  }

  #failure(name: string, error: unknown, signal: AbortSignal | undefined): unknown {
    if (error instanceof LoamError) return error
    const fired = [signal, this.#connections.closed].find((each) => each?.aborted === true)
    return fired === undefined ? lost(name, this.#socket, error) : canceled(name, fired)
  }
}

/** Ends before a value that is undefined. */
async function* linesOf(values: readonly unknown[]): AsyncGenerator<Uint8Array> {
  for (const each of values) {
    const value = await each
    if (value === undefined) return
    yield Buffer.from(`${JSON.stringify(value)}\n`)
  }
}

/** A list is sent as a field that is repeated. */
function queryOf(request: unknown): string {
  if (typeof request !== 'object' || request === null) return ''
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(request)) {
    const values: readonly unknown[] = Array.isArray(value) ? value : value === undefined ? [] : [value]
    for (const each of values) {
      const text = String(each)
      // It would become another text, which may name another file.
      if (!text.isWellFormed()) throw new LoamError('USAGE', `ask loamd: ${name} is not Unicode`)
      query.append(name, text)
    }
  }
  return query.size === 0 ? '' : `?${query.toString()}`
}

function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new LoamError('INTERNAL', `${name}: the daemon answered something that is not JSON`, {
      cause: error,
    })
  }
}

function parse<Value>(name: string, schema: v.GenericSchema<unknown, Value>, value: unknown): Value {
  const parsed = v.safeParse(schema, value)
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  throw new LoamError(
    'INTERNAL',
    `${name}: the daemon's answer is invalid: ${v.getDotPath(issue)}: ${issue.message}`,
    {
      hint: 'Use the client and the daemon of one version.',
    },
  )
}
