import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError, throwIfAborted } from '../errors/index.ts'
import { ProxyRefusal } from './proxies.ts'
import { errorCode, header } from './responses.ts'
import type { Response } from './transport.ts'

export interface RetryOptions {
  /** Tries of one request in all. */
  readonly tries: number
  /** First wait; doubled for each further one. */
  readonly baseMs: number
  /** Longest wait, also where a Retry-After asks for more. */
  readonly maxMs: number
}

const RETRIED_STATUS: readonly number[] = [408, 425, 429, 500, 502, 503, 504]
/** A name that does not exist, a port that nobody listens on and a bad certificate will be the same in a second. */
const FINAL_CODES =
  /^(?:ENOTFOUND|ECONNREFUSED|CERT_|ERR_TLS|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_SSL|EPROTO|HOSTNAME_MISMATCH|UND_ERR_INVALID_ARG|UND_ERR_ABORTED|HPE_|ADDRESS_REFUSED)/

export function isRetriedStatus(status: number): boolean {
  return RETRIED_STATUS.includes(status)
}

/** A LoamError is somebody's verdict already, and final. */
export function isRetriedError(error: unknown): boolean {
  if (isLoamError(error)) return false
  if (error instanceof ProxyRefusal) return isRetriedStatus(error.status)
  const code = errorCode(error)
  return code !== '' && !FINAL_CODES.test(code)
}

/** Waits before try number `tried` + 1: as long as the registry asks for, else twice as long as before, with some chance in it. */
export async function waitBeforeRetry(
  tried: number,
  options: RetryOptions,
  context: { readonly response?: Response; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const asked =
    context.response === undefined ? undefined : readRetryAfter(header(context.response, 'retry-after'))
  const backoff = options.baseMs * 2 ** (tried - 1) * (0.75 + Math.random() / 2)
  const waitMs = Math.min(asked ?? backoff, options.maxMs)
  try {
    await sleep(waitMs, undefined, context.signal === undefined ? {} : { signal: context.signal })
  } catch {
    throwIfAborted(context.signal, 'wait for the registry')
  }
}

/** Reads a Retry-After in ms: seconds or a date (RFC 9110, 10.2.3). */
function readRetryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now())
}
