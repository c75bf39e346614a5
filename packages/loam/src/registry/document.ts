import { isLoamError, LoamError } from '../errors/index.ts'
import { type Digest, digestOf, splitDigest } from '../image/index.ts'
import type { EndpointSession, SessionRequest } from './endpoint-session.ts'
import { readBody, transportError } from './responses.ts'
import { Patience, type RetryOptions } from './retry.ts'

/** The answer to a request of a document. */
export type DocumentResponse = Awaited<ReturnType<EndpointSession['get']>>

/** Tries of a document whose answer is incomplete or invalid. */
const DOCUMENT_TRIES = 3

/** Gets a document and verifies it by `accept`. An incomplete or wrong one is requested again. @throws REGISTRY_*, DOCUMENT_TOO_LARGE and what `accept` throws */
export async function getDocument<T>(
  session: EndpointSession,
  request: SessionRequest & { readonly retry: RetryOptions },
  maxBytes: number,
  accept: (bytes: Buffer, response: DocumentResponse) => T | Promise<T>,
): Promise<T> {
  const patience = new Patience(request.retry, request)
  for (let tried = 1; ; tried += 1) {
    const response = await session.get({ ...request, patience })
    try {
      const bytes = await readBody(response, maxBytes, request.attempted.replace(/^get /, ''))
      return await accept(bytes, response)
    } catch (error) {
      const failure = transportError(error, request, session.registry)
      const isWorthAnother = isLoamError(
        failure,
        'REGISTRY_STALLED',
        'REGISTRY_UNREACHABLE',
        'DIGEST_MISMATCH',
        'SIZE_MISMATCH',
        'DOCUMENT_TOO_LARGE',
      )
      if (!isWorthAnother || tried >= DOCUMENT_TRIES || !(await patience.wait({ error }))) throw failure
    }
  }
}

/** Returns the digest of a document. @throws DIGEST_MISMATCH for another one than the expected */
export function verify(bytes: Buffer, expected: Digest | undefined, attempted: string): Digest {
  const actual = digestOf(bytes, expected === undefined ? 'sha256' : splitDigest(expected).algorithm)
  if (expected !== undefined && actual !== expected) {
    throw new LoamError('DIGEST_MISMATCH', `${attempted}: expected ${expected}, got ${actual}`, {
      hint: 'The registry or a proxy changed the data; nothing was kept.',
    })
  }
  return actual
}
