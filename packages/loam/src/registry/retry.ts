import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError, throwIfAborted } from '../errors/index.ts'
import { ProxyRefusal } from './proxies.ts'
import { errorCode, retryAfterMs } from './responses.ts'
import type { Response } from './transport.ts'

export interface RetryOptions {
  /** Tries of one request in all, but for those that a server has named a time for. */
  readonly tries: number
  /** First wait; doubled for each further one. */
  readonly baseMs: number
  /** Longest time that one request waits between its tries, all waits together. */
  readonly waitMs: number
  /** Called before each wait. */
  readonly onWait?: ((wait: RetryWait) => void) | undefined
  /** The clock; undefined: this machine's. */
  readonly sleep?: (ms: number, signal: AbortSignal | undefined) => Promise<void>
}

/** A wait between two tries of a request. */
export interface RetryWait {
  /** What is going to be tried again: `get manifest …`. */
  readonly attempted: string
  /** What happened: `answered 429`, `ECONNRESET`. */
  readonly reason: string
  /** Milliseconds until the next try. */
  readonly waitMs: number
}

/** The request that is tried. */
interface Tried {
  readonly attempted: string
  readonly signal?: AbortSignal | undefined
}

/** What a try came to. */
interface Failure {
  readonly response?: Response
  readonly error?: unknown
}

const RETRIED_STATUS: readonly number[] = [408, 425, 429, 500, 502, 503, 504]
/** A name that does not exist, a closed port and an invalid certificate will be the same in a second. */
const FINAL_CODES =
  /^(?:ENOTFOUND|ECONNREFUSED|CERT_|ERR_TLS|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_SSL|EPROTO|HOSTNAME_MISMATCH|UND_ERR_INVALID_ARG|UND_ERR_ABORTED|UND_ERR_DESTROYED|UND_ERR_CLOSED|HPE_|ADDRESS_REFUSED)/

export function isRetriedStatus(status: number): boolean {
  return RETRIED_STATUS.includes(status)
}

/** A LoamError is final: the code that created it has decided already. */
export function isRetriedError(error: unknown): boolean {
  if (isLoamError(error)) return false
  if (error instanceof ProxyRefusal) return isRetriedStatus(error.status)
  const code = errorCode(error)
  return code !== '' && !FINAL_CODES.test(code)
}

/**
 * How often and how long one request is tried, over all that it takes: redirects, tokens, resumes. A server that names a time (Retry-After)
 * is waited for that long, as often as it asks and as long as all waits together stay within the bound; a longer one is not begun, since
 * asking earlier would be refused, too. Otherwise each wait is twice as long as before, with some chance in it, and there are so many tries.
 */
export class Patience {
  readonly #options: RetryOptions
  readonly #request: Tried
  #tried = 0
  #waitedMs = 0
  #askedMs = 0

  constructor(options: RetryOptions, request: Tried) {
    this.#options = options
    this.#request = request
  }

  /** Begins anew, after something has come; but a server that asks to be waited for has one bound in all. */
  restart(): void {
    this.#tried = 0
    this.#waitedMs = 0
  }

  /**
   * Waits until the request may be sent again after an answer or an error. Returns false when it is not to be sent again. @throws CANCELED
   */
  async wait(failure: Failure = {}): Promise<boolean> {
    const { signal, attempted } = this.#request
    throwIfAborted(signal, attempted)
    const waitMs = this.#nextWait(askedMs(failure))
    if (waitMs === undefined) return false
    this.#options.onWait?.({ attempted, reason: reasonOf(failure), waitMs })
    await (this.#options.sleep ?? sleepFor)(waitMs, signal).catch(() => undefined)
    throwIfAborted(signal, attempted)
    return true
  }

  /** Returns the message for a server that asks for too long a wait, so that Loam does not retry; empty if it does not. */
  refusal(response: Response): string {
    const asked = retryAfterMs(response)
    if (asked === undefined || asked === 0) return ''
    const waitedMs = this.#waitedMs + this.#askedMs
    const waited = waitedMs === 0 ? '' : `, after ${seconds(waitedMs)} of waiting`
    return `it asks to wait ${seconds(asked)}, the total limit is ${seconds(this.#options.waitMs)} (registry_retry_time)${waited}`
  }

  #nextWait(asked: number | undefined): number | undefined {
    const { tries, baseMs, waitMs } = this.#options
    const chance = Math.random()
    const isAsked = asked !== undefined && asked > 0 && tries > 1
    if (!isAsked) this.#tried += 1
    if (this.#tried >= tries) return undefined
    const next = isAsked ? asked : baseMs * 2 ** (this.#tried - 1) * (0.75 + chance / 2)
    const leftMs = waitMs - this.#waitedMs - this.#askedMs
    if (next > leftMs) return undefined
    if (!isAsked) {
      this.#waitedMs += next
      return next
    }
    // Clients that got the same time would all return at the same time.
    const later = Math.min(next + chance * baseMs, leftMs)
    this.#askedMs += later
    return later
  }
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 1000)} s`
}

function reasonOf({ response, error }: Failure): string {
  if (response !== undefined) return `answered ${response.statusCode}`
  const code = errorCode(error)
  return code === '' ? 'it failed' : code
}

async function sleepFor(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal === undefined ? {} : { signal })
}

/** What a server has asked for, in its answer or in the error that was made of it. */
function askedMs({ response, error }: Failure): number | undefined {
  if (response !== undefined) return retryAfterMs(response)
  const asked = isLoamError(error) ? error.details['retryAfterMs'] : undefined
  return typeof asked === 'number' ? asked : undefined
}
