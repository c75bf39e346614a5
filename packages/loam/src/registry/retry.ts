import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError, throwIfAborted } from '../errors/index.ts'
import { ProxyRefusal } from './proxies.ts'
import { errorCode, retryAfterMs } from './responses.ts'
import type { Response } from './transport.ts'

export interface RetryOptions {
  /** Tries of one request, without those whose time the server named. */
  readonly tries: number
  /** First wait; doubled for each further one. */
  readonly baseMs: number
  /** Longest total time that one request waits between its tries. */
  readonly waitMs: number
  /** Called before each wait. */
  readonly onWait?: ((wait: RetryWait) => void) | undefined
  /** The clock; undefined: this machine's. */
  readonly sleep?: (ms: number, signal: AbortSignal | undefined) => Promise<void>
}

/** A wait between two tries of a request. */
export interface RetryWait {
  /** The attempt that will be retried: `get manifest …`. */
  readonly attempted: string
  /** Reason of the failure: `answered 429`, `ECONNRESET`. */
  readonly reason: string
  /** Milliseconds until the next try. */
  readonly waitMs: number
}

/** The request that is tried. */
interface Tried {
  readonly attempted: string
  readonly signal?: AbortSignal | undefined
}

/** Result of a failed try. */
interface Failure {
  readonly response?: Response
  readonly error?: unknown
}

const RETRIED_STATUS: readonly number[] = [408, 425, 429]
/** Faults of a server that stay: what it does not implement, and a version of HTTP that it does not support. */
const FINAL_SERVER_STATUS: readonly number[] = [501, 505]
/** Failures that a retry would not change: a name that does not exist, a closed port, an invalid certificate. */
const FINAL_CODES =
  /^(?:ENOTFOUND|ECONNREFUSED|CERT_|ERR_TLS|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_SSL|ERR_OSSL|EPROTO|HOSTNAME_MISMATCH|UND_ERR_INVALID_ARG|UND_ERR_ABORTED|UND_ERR_DESTROYED|UND_ERR_CLOSED|HPE_|ADDRESS_REFUSED)/

export function isRetriedStatus(status: number): boolean {
  return RETRIED_STATUS.includes(status) || (status >= 500 && !FINAL_SERVER_STATUS.includes(status))
}

/** Returns whether an error is retried. A LoamError is final: the code that created it has decided already. */
export function isRetriedError(error: unknown): boolean {
  if (isLoamError(error)) return false
  if (error instanceof ProxyRefusal) return isRetriedStatus(error.status)
  const code = errorCode(error)
  return code !== '' && !FINAL_CODES.test(code)
}

/**
 * Limits the retries of one request, including redirects, tokens and resumes. If a server names a time (Retry-After), Loam waits that
 * long, any number of times, as long as the total wait stays within the limit. A longer wait is not started, since an earlier try
 * would be refused. Otherwise each wait is twice as long as the last one, with some jitter, and the number of tries is limited.
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

  /** Starts the count of tries again, after bytes were received. The limit of waits that a server asks for stays. */
  restart(): void {
    this.#tried = 0
    this.#waitedMs = 0
  }

  /**
   * Waits until the request may be sent again after an answer or an error. Returns false if it must not be sent again. @throws CANCELED
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
    // Without jitter, all clients that got the same time would return at once.
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

/** Returns the wait that a server asked for, from its answer or from the error that was created for it. */
function askedMs({ response, error }: Failure): number | undefined {
  if (response !== undefined) return retryAfterMs(response)
  const asked = isLoamError(error) ? error.details['retryAfterMs'] : undefined
  return typeof asked === 'number' ? asked : undefined
}
