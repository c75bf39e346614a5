import { existsSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { cancelable, type ErrorCode, ERRORS, isErrno, LoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import { canConnect } from '../linux/index.ts'
import type { CompleteOptions, LayerFiller } from '../layers/index.ts'
import { type LazyPaths, lazyPaths } from './lazy-paths.ts'
import {
  type LazyAnswer,
  type LazyRequest,
  type LazyStatus,
  type DeniedLayer,
  parseLazyAnswer,
  splitLines,
} from './protocol.ts'

/** How long a handler may take to start; a machine under load needs seconds to load it. */
const START_LIMIT_MS = 30_000
const LOOK_AGAIN_MS = 20
/** After the end of a handler, until another one is started unless it starts by itself. */
const HOLD_AGAIN_MS = 2_000
/** How often a request is repeated whose handler has ended before it answered. */
const MAX_TRIES = 10

/** The handler does not listen, or has ended before its answer. */
class HandlerGone extends Error {}

interface AskOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: CompleteOptions['onProgress']
}

/** Fills partial layers by the handler of a store, which it starts when it is needed. */
export class HandlerClient implements LayerFiller {
  readonly #paths: LazyPaths
  readonly #start: () => Promise<void>
  /** Keeps the handler running for the next layers, as long as this process runs. */
  #hold: Socket | undefined
  #isPreparing = false
  #isReleased = false
  readonly #onDenied: (denied: DeniedLayer) => void

  /** `start` starts a handler, or does nothing if one runs. `onDenied` is told of layers whose lazy index is wrong, while the handler is held. */
  constructor(
    state: string,
    start: () => Promise<void>,
    onDenied: (denied: DeniedLayer) => void = () => undefined,
  ) {
    this.#paths = lazyPaths(state)
    this.#start = start
    this.#onDenied = onDenied
  }

  async serve(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<void> {
    if (diffIds.length > 0) await this.#serve(diffIds, signal)
  }

  async resume(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<readonly string[]> {
    // A handler that starts looks for mounts whose reads nobody has let wait, also if there is nothing to serve.
    await this.#serve(diffIds, signal)
    return (await this.status(signal))?.poisoned ?? []
  }

  async #serve(diffIds: readonly DiffId[], signal: AbortSignal | undefined): Promise<void> {
    await this.#ask({ op: 'serve', diffIds }, { signal })
    this.prepare()
  }

  prepare(): void {
    if (this.#hold !== undefined || this.#isPreparing || this.#isReleased) return
    this.#isPreparing = true
    void this.#openHold()
      // The request that needs the handler says what is wrong with it.
      .catch(() => undefined)
      .finally(() => {
        this.#isPreparing = false
      })
  }

  release(): void {
    this.#isReleased = true
    this.#hold?.destroy()
  }

  async #openHold(): Promise<void> {
    const request = { op: 'hold' } as const
    if (!(await canConnect(this.#paths.socket))) await this.#ensureStarted(request, undefined)
    const socket = await open(this.#paths.socket)
    if (this.#isReleased) socket.destroy()
    socket.unref()
    socket.on('error', () => undefined)
    socket.once('close', () => {
      this.#hold = undefined
      // It was killed. The next one finds out what nobody served meanwhile. Without the directory the store was removed.
      setTimeout(() => {
        if (existsSync(this.#paths.folder)) this.prepare()
      }, HOLD_AGAIN_MS).unref()
    })
    void this.#listen(socket)
    socket.write(`${JSON.stringify(request)}\n`)
    this.#hold = socket
  }

  /** Passes on the events of the handler, until the connection ends. */
  async #listen(socket: Socket): Promise<void> {
    let text = ''
    try {
      for await (const chunk of socket.setEncoding('utf8')) {
        const { lines, rest } = splitLines(text + String(chunk))
        text = rest
        for (const answer of lines.map(parseLazyAnswer))
          if (answer.kind === 'denied') this.#onDenied(answer.denied)
      }
    } catch {
      // The handler was killed, or is one of another version.
      socket.destroy()
    }
  }

  async complete(diffId: DiffId, options: CompleteOptions = {}): Promise<void> {
    await this.#ask({ op: 'complete', diffIds: [diffId] }, options)
  }

  async forget(diffIds: readonly DiffId[]): Promise<void> {
    // Without a holder nothing is marked, and nothing holds the files.
    if (diffIds.length > 0 && existsSync(this.#paths.holder)) await this.#ask({ op: 'forget', diffIds }, {})
  }

  /** Returns what the handler does; undefined if none runs. @throws LAZY_UNAVAILABLE */
  async status(signal?: AbortSignal): Promise<LazyStatus | undefined> {
    try {
      const answer = await askOnce(this.#paths.socket, { op: 'status' }, { signal })
      return answer.kind === 'status' ? answer.status : undefined
    } catch (error) {
      if (error instanceof HandlerGone) return undefined
      throw error
    }
  }

  /** A handler that ends takes no notice of its last request. All requests may be repeated. */
  async #ask(request: LazyRequest, options: AskOptions): Promise<void> {
    for (let tried = 1; ; tried += 1) {
      try {
        await askOnce(this.#paths.socket, request, options)
        return
      } catch (error) {
        if (!(error instanceof HandlerGone)) throw error
        if (tried === MAX_TRIES)
          throw unavailable(request, 'it ended before it answered, again and again', error)
        await this.#ensureStarted(request, options.signal)
      }
    }
  }

  async #ensureStarted(request: LazyRequest, signal: AbortSignal | undefined): Promise<void> {
    await this.#start()
    const end = performance.now() + START_LIMIT_MS
    while (!(await canConnect(this.#paths.socket))) {
      if (performance.now() > end)
        throw unavailable(request, `it did not start within ${START_LIMIT_MS / 1000} s`)
      await cancelable(signal, 'wait for the handler of partial layers', async () =>
        sleep(LOOK_AGAIN_MS, undefined, signal === undefined ? {} : { signal }),
      )
    }
  }
}

function unavailable({ op }: LazyRequest, why: string, cause?: unknown): LoamError {
  return new LoamError('LAZY_UNAVAILABLE', `${op} partial layers: the handler: ${why}`, {
    cause,
    hint: '`loam doctor` shows whether this machine can pull lazily; the log of the handler is `lazy/log` in the state directory.',
  })
}

async function open(path: string): Promise<Socket> {
  const socket = connect(path)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  socket.once('connect', resolve)
  socket.once('error', reject)
  try {
    await promise
    return socket
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE')) throw new HandlerGone()
    throw error
  }
}

/** Sends a request and returns its last answer. @throws HandlerGone, the handler's error, CANCELED */
async function askOnce(path: string, request: LazyRequest, options: AskOptions): Promise<LazyAnswer> {
  return cancelable(options.signal, `${request.op} partial layers`, async () => {
    const socket = await open(path)
    const leave = () => socket.destroy()
    options.signal?.addEventListener('abort', leave)
    try {
      options.signal?.throwIfAborted()
      socket.write(`${JSON.stringify(request)}\n`)
      return await lastAnswer(socket, request, options)
    } finally {
      options.signal?.removeEventListener('abort', leave)
      socket.destroy()
    }
  })
}

async function lastAnswer(
  socket: Socket,
  request: LazyRequest,
  { onProgress }: AskOptions,
): Promise<LazyAnswer> {
  socket.setEncoding('utf8')
  let text = ''
  try {
    for await (const chunk of socket) {
      const { lines, rest } = splitLines(text + String(chunk))
      text = rest
      for (const line of lines) {
        const answer = readAnswer(line, request)
        if (answer.kind === 'failed') throw failureOf(answer)
        if (answer.kind !== 'progress') return answer
        onProgress?.(answer.presentBytes, answer.totalBytes)
      }
    }
  } catch (error) {
    if (isErrno(error, 'ECONNRESET', 'EPIPE')) throw new HandlerGone()
    throw error
  }
  throw new HandlerGone()
}

function readAnswer(line: string, request: LazyRequest): LazyAnswer {
  try {
    return parseLazyAnswer(line)
  } catch (error) {
    throw unavailable(request, 'its answer is not one of this version', error)
  }
}

function failureOf({ code, message }: { readonly code: string; readonly message: string }): LoamError {
  return new LoamError(code in ERRORS ? (code as ErrorCode) : 'LAZY_UNAVAILABLE', message)
}
