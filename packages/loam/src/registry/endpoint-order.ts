import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import { type BlobRequest, streamBlob } from './blob-stream.ts'
import type { EndpointSession } from './endpoint-session.ts'
import { isRetriedStatus, type RetryOptions } from './retry.ts'

/** The endpoints of one registry, in the order in which they are asked. */
export interface EndpointOrder {
  readonly registry: string
  readonly sessions: readonly EndpointSession[]
  /** Retries of the registry itself. */
  readonly retry: RetryOptions
}

/** An endpoint that failed. */
interface Failed {
  readonly session: EndpointSession
  readonly failure: LoamError
}

/** Rounds in which a blob still makes progress; each has as many resumes as the size of the blob allows. */
const MAX_ROUNDS = 10

/**
 * Asks endpoints in turn until one succeeds. A mirror is asked once: what it does not have, or fails at, is asked of the next one
 * without a wait. If the registry itself is unavailable too, mirrors that were only unavailable are asked again, with retries.
 * @throws the registry's own failure, with those of its mirrors in the message; CANCELED
 */
export async function tryInOrder<T>(
  order: EndpointOrder,
  act: (session: EndpointSession, retry: RetryOptions) => Promise<T>,
): Promise<T> {
  const failed: Failed[] = []
  for (const session of order.sessions) {
    try {
      return await act(session, firstRetries(session, order))
    } catch (error) {
      failed.push({ session, failure: failureOf(error, order) })
    }
  }
  for (const session of findMirrorsToAskAgain(failed)) {
    try {
      return await act(session, order.retry)
    } catch (error) {
      failureOf(error, order)
    }
  }
  throw summaryOf(failed, order)
}

/** A blob, and the first byte of it that is wanted. */
export type OrderedBlob = Omit<BlobRequest, 'retry' | 'registry'> & { readonly fromByte: number }

/**
 * Streams a blob. When an endpoint fails in the middle, the next one continues from the same byte; the consumer verifies the digest of
 * the whole. Mirrors are asked again as in `tryInOrder`, and while more bytes arrive. @throws as `tryInOrder`
 */
export async function* streamInOrder(
  order: EndpointOrder,
  blob: OrderedBlob,
  onSender: (session: EndpointSession) => void,
): AsyncGenerator<Buffer> {
  const { registry } = order
  const first: Failed[] = []
  let { fromByte } = blob
  let sessions = order.sessions
  for (let round = 1; ; round += 1) {
    const roundStart = fromByte
    const failed = round === 1 ? first : []
    for (const session of sessions) {
      const retry = round === 1 ? firstRetries(session, order) : order.retry
      try {
        for await (const chunk of streamBlob(session, { ...blob, fromByte, registry, retry })) {
          onSender(session)
          fromByte += chunk.length
          yield chunk
        }
        return
      } catch (error) {
        failed.push({ session, failure: failureOf(error, order) })
      }
    }
    sessions = findMirrorsToAskAgain(failed)
    const isStuck = round > 1 && fromByte === roundStart
    if (sessions.length === 0 || isStuck || round === MAX_ROUNDS) throw summaryOf(first, order)
  }
}

function firstRetries(session: EndpointSession, { retry }: EndpointOrder): RetryOptions {
  return session.isMirror ? { ...retry, tries: 1 } : retry
}

/** Returns the failure of an endpoint. @throws CANCELED, which is final */
function failureOf(error: unknown, { registry }: EndpointOrder): LoamError {
  const failure = toLoamError(error, `pull from ${registry}`)
  if (failure.code === 'CANCELED') throw failure
  return failure
}

/** Returns the mirrors that may have what is wanted, unless the registry itself has answered. */
function findMirrorsToAskAgain(failed: readonly Failed[]): EndpointSession[] {
  const isAnswered = failed.some(({ session, failure }) => !session.isMirror && !isUnavailable(failure))
  if (isAnswered) return []
  return failed
    .filter(({ session, failure }) => session.isMirror && isUnavailable(failure))
    .map(({ session }) => session)
}

function isUnavailable(failure: LoamError): boolean {
  const { status } = failure.details
  return (
    isLoamError(
      failure,
      'REGISTRY_UNREACHABLE',
      'REGISTRY_STALLED',
      'REGISTRY_RATE_LIMITED',
      'SIZE_MISMATCH',
    ) ||
    (typeof status === 'number' && isRetriedStatus(status))
  )
}

/** Returns the failure of the registry itself, with those of its mirrors. */
function summaryOf(failed: readonly Failed[], { registry }: EndpointOrder): LoamError {
  const own = failed.find(({ session }) => !session.isMirror) ?? failed.at(-1)
  if (own === undefined)
    return new LoamError('CONFIG_INVALID', `pull from ${registry}: no address is configured`)
  const others = failed.filter((other) => other !== own).map(messageOf)
  if (others.length === 0) return own.failure
  const { code, message, details, hint } = own.failure
  return new LoamError(code, `${message}; before that, its mirrors: ${others.join('; ')}`, {
    cause: own.failure,
    details,
    hint,
  })
}

function messageOf({ session, failure: { message } }: Failed): string {
  return message.includes(session.registry) ? message : `${session.registry}: ${message}`
}
