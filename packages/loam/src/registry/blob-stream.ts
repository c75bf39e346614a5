import { LoamError } from '../errors/index.ts'
import type { EndpointSession, SessionRequest } from './endpoint-session.ts'
import { FileVersion } from './file-version.ts'
import { header, isNotHttp, totalOf, transportError } from './responses.ts'
import { isRetriedError, Patience, type RetryOptions } from './retry.ts'
import type { Response } from './transport.ts'

export interface BlobRequest extends SessionRequest {
  /** -1: the size that the first answer announces, or that is received. */
  readonly sizeBytes: number
  /** Number of bytes that the caller has already. Undefined: 0. */
  readonly fromByte?: number
  /** The byte after the last wanted one. Undefined: all that follows. */
  readonly endByte?: number | undefined
  /** Called when a server without ranges sends the blob from its start. */
  readonly onWhole?: (() => void) | undefined
  /** Whether nothing else verifies the bytes, so that all of them must be of one version of the file. */
  readonly isUnverified?: boolean
  readonly registry: string
  readonly retry: RetryOptions
}

/**
 * Streams a blob from one endpoint, and resumes it after an interruption with a range request. If the server sends the
 * whole blob again, the known part is skipped. The count of tries starts again after each received byte, with at most
 * one resume for each MiB and a hundred more, so that a slow registry cannot hold a pull for ever.
 * The consumer verifies the digest; a file without one is resumed only as the version that the first answer had.
 */
export async function* streamBlob(session: EndpointSession, asked: BlobRequest): AsyncGenerator<Buffer> {
  const request: BlobRequest & { sizeBytes: number } = { ...asked }
  const patience = new Patience(request.retry, request)
  const start = asked.fromByte ?? 0
  let received = start
  let version: FileVersion | undefined
  for (let resumes = 0; ; resumes += 1) {
    if (hasAll(request, received)) return
    if (received === start) version = undefined
    try {
      const headers = { ...request.headers, ...version?.condition }
      const response = await askFrom(session, { ...request, headers, patience }, received)
      if (response === undefined) return
      if (received === start && asked.sizeBytes < 0) request.sizeBytes = announcedBytes(response)
      version = await requireVersion(version, response, request)
      for await (const chunk of bodyFrom(response, request, received)) {
        received += chunk.length
        patience.restart()
        if (received > request.sizeBytes && !hasRange(request, received)) throw wrongSize(request, received)
        yield chunk
        if (hasRange(request, received)) return
      }
      if (isEnded(request, received)) return
      throw cutOff(request, received)
    } catch (error) {
      const isLost = received > start && version?.canBeResumed === false
      if (isLost || !mayResume(request, resumes, error) || !(await patience.wait({ error })))
        throw transportError(error, request, request.registry)
    }
  }
}

function isEnded({ sizeBytes }: { readonly sizeBytes: number }, received: number): boolean {
  return received >= sizeBytes || sizeBytes === Number.POSITIVE_INFINITY
}

function mayResume(request: BlobRequest, resumes: number, error: unknown): boolean {
  return request.signal?.aborted !== true && resumes < maxResumes(request) && isCut(error)
}

/** Returns the version of a file that nobody verifies, which is that of the first answer. @throws REGISTRY_RESPONSE for an answer with another one */
async function requireVersion(
  known: FileVersion | undefined,
  response: Response,
  request: BlobRequest,
): Promise<FileVersion | undefined> {
  if (request.isUnverified !== true) return undefined
  if (known?.isOther(response) === true) throw await otherVersion(request, response)
  return known ?? new FileVersion(response)
}

/** Requests a blob from an offset. Returns an answer with that range, or with the whole blob; undefined if the offset is its end. */
async function askFrom(
  session: EndpointSession,
  request: BlobRequest,
  fromByte: number,
): Promise<Response | undefined> {
  const response = await session.get(withRange(request, fromByte))
  if (isWholeOrFrom(response, fromByte)) return response
  await response.body.dump()
  if (response.statusCode === 416 && isAllOf(response, fromByte, request)) return undefined
  // The server answered with another range or size. The whole blob and its digest decide.
  const whole = await session.get(request)
  if (whole.statusCode === 200) return whole
  await whole.body.dump()
  throw otherRange(request)
}

function maxResumes({ sizeBytes }: BlobRequest): number {
  return 100 + Math.ceil(Math.max(sizeBytes, 0) / (1 << 20))
}

function hasAll(request: BlobRequest, received: number): boolean {
  const isEnd = received > 0 && !isOpenEnded(request.sizeBytes) && received >= request.sizeBytes
  return isEnd || hasRange(request, received)
}

function hasRange({ endByte }: BlobRequest, received: number): boolean {
  return endByte !== undefined && received >= endByte
}

function isRanged({ endByte }: BlobRequest, received: number): boolean {
  return received > 0 || endByte !== undefined
}

function withRange(request: BlobRequest, received: number): SessionRequest {
  if (!isRanged(request, received)) return request
  const { endByte } = request
  const last = endByte === undefined ? '' : String(endByte - 1)
  return {
    ...request,
    headers: { ...request.headers, range: `bytes=${received}-${last}` },
    accepts: [200, 206, 416],
  }
}

/** Returns whether an answer without a range means that the offset is the end of the blob (RFC 9110, 15.5.17). */
function isAllOf(response: Response, received: number, { sizeBytes }: BlobRequest): boolean {
  return isOpenEnded(sizeBytes) && totalOf(response) === received
}

function isOpenEnded(sizeBytes: number): boolean {
  return sizeBytes < 0 || sizeBytes === Number.POSITIVE_INFINITY
}

/** Returns the announced size; a body without one is complete when it ends. */
function announcedBytes(response: Response): number {
  return totalOf(response) ?? Number.POSITIVE_INFINITY
}

const CUT = Symbol('cut')

function cutOff(request: BlobRequest, received: number): LoamError {
  const hint = 'The registry closed the transfer early; nothing was kept.'
  return Object.assign(wrongSize(request, received, hint), { [CUT]: true })
}

function wrongSize({ attempted, sizeBytes }: BlobRequest, received: number, hint?: string): LoamError {
  return new LoamError('SIZE_MISMATCH', `${attempted}: expected ${sizeBytes} bytes, got ${received}`, {
    hint,
  })
}

async function otherVersion({ attempted }: BlobRequest, response: Response): Promise<LoamError> {
  await response.body.dump()
  return new LoamError('REGISTRY_RESPONSE', `${attempted}: the file changed while it was transferred`, {
    hint: 'Nothing was kept. Try again once the file is complete.',
  })
}

/** Returns whether the rest may still come. What is not HTTP within a body is damage on the way; a request throws a LoamError for it. */
function isCut(error: unknown): boolean {
  return isRetriedError(error) || isNotHttp(error) || (error instanceof Error && CUT in error)
}

/** Returns whether an answer has the bytes from the requested offset, or all of them. */
function isWholeOrFrom(response: Response, fromByte: number): boolean {
  if (response.statusCode === 206) return rangeStart(response) === fromByte
  return response.statusCode !== 416
}

function otherRange({ attempted }: BlobRequest): LoamError {
  return new LoamError('REGISTRY_RESPONSE', `${attempted}: requested the whole blob, got a different range`)
}

/** Yields a body from a byte of the blob on. A server that sends the whole blob is reported, if it was asked for a part. */
async function* bodyFrom(response: Response, request: BlobRequest, fromByte: number): AsyncGenerator<Buffer> {
  const isWhole = response.statusCode !== 206
  if (isWhole && isRanged(request, fromByte)) request.onWhole?.()
  let toSkip = isWhole ? fromByte : 0
  for await (const raw of response.body) {
    const chunk = raw as Buffer
    const skipped = Math.min(toSkip, chunk.length)
    toSkip -= skipped
    if (skipped < chunk.length) yield chunk.subarray(skipped)
  }
}

function rangeStart(response: Response): number | undefined {
  const match = /^bytes[ =](\d+)-/i.exec(header(response, 'content-range') ?? '')
  return match === null ? undefined : Number(match[1])
}
