/*
 * Uploading blobs, by OCI's distribution-spec 1.1 ("Pushing blobs") and as registries implement it:
 *
 *   POST uploads/?mount=D&from=R   201 mounted; 202 (or 200) not mounted, and an upload has begun that is not needed
 *   POST uploads/                  2xx and a Location, relative or on any host, for the blob
 *   PUT  Location&digest=D         the whole blob; if that is not allowed (405, 501):
 *   PATCH Location, PUT digest     the blob in one stream, then its digest, as docker does
 */
import type { Readable } from 'node:stream'
import { isLoamError, LoamError } from '../errors/index.ts'
import type { Descriptor, Digest } from '../image/index.ts'
import type { Answer, EndpointSession, SessionRequest } from './endpoint-session.ts'
import { header } from './responses.ts'
import { isRetriedStatus, Patience, type RetryOptions } from './retry.ts'

/** Registries answer with different statuses of success: containerd accepts three, docker all. */
export const ANY_SUCCESS: readonly number[] = [200, 201, 202, 203, 204, 205, 206]

export interface Upload {
  readonly repository: string
  readonly scope: string
  readonly signal: AbortSignal | undefined
  readonly retry: RetryOptions
}

/** Uploads a blob. `open` is called once for each try, which is an upload of its own: an interrupted upload cannot be resumed. */
export async function uploadBlob(
  session: EndpointSession,
  blob: Descriptor,
  open: () => Readable,
  upload: Upload,
): Promise<void> {
  const attempted = `upload blob ${blob.digest} to ${upload.repository}`
  const patience = new Patience(upload.retry, { attempted, signal: upload.signal })
  for (;;) {
    try {
      const begun = await beginUpload(session, upload, { attempted, patience })
      await sendBlob(session, blob, open, { begun, upload, attempted, patience })
      return
    } catch (error) {
      if (!isWorthAnother(error) || !(await patience.wait({ error }))) throw error
    }
  }
}

/**
 * Mounts a blob from another repository of the registry. Returns whether it was mounted: after any failure, such as a token server that
 * gives no token for the other repository, the blob can still be uploaded. @throws CANCELED
 */
export async function mountBlob(
  session: EndpointSession,
  digest: Digest,
  from: string,
  upload: Upload,
): Promise<boolean> {
  const query = new URLSearchParams({ mount: digest, from })
  const attempted = `mount blob ${digest} of ${from} in ${upload.repository}`
  const scope = `${upload.scope} repository:${from}:pull`
  const common = { scope, attempted, signal: upload.signal, accepts: ANY_SUCCESS }
  const send = async (make: () => Pick<SessionRequest, 'path' | 'url' | 'method' | 'headers' | 'isOnce'>) => {
    try {
      const answer = await session.request({ ...common, ...make() })
      await answer.response.body.dump()
      return answer
    } catch (error) {
      if (isLoamError(error, 'CANCELED')) throw error
      return undefined
    }
  }
  const path = `${upload.repository}/blobs/uploads/?${query.toString()}`
  const answer = await send(() => ({ path, method: 'POST', headers: { 'content-length': '0' } }))
  if (answer?.response.statusCode === 201) return true
  const location = answer === undefined ? undefined : header(answer.response, 'location')
  if (answer?.response.statusCode !== 202 || location === undefined) return false
  // As in containers/image, the upload that has begun is canceled. A failure of that is ignored.
  await send(() => ({
    url: session.resolve(location, answer.url, attempted),
    method: 'DELETE',
    headers: {},
    isOnce: true,
  }))
  return false
}

/** The attempt, for messages, and the patience for all its requests. */
interface Attempt {
  readonly attempted: string
  readonly patience: Patience
}

async function beginUpload(
  session: EndpointSession,
  upload: Upload,
  { attempted, patience }: Attempt,
): Promise<Answer> {
  const answer = await session.request({
    path: `${upload.repository}/blobs/uploads/`,
    method: 'POST',
    headers: { 'content-length': '0' },
    scope: upload.scope,
    attempted,
    patience,
    signal: upload.signal,
    accepts: [...ANY_SUCCESS, 404, 405],
  })
  if (answer.response.statusCode === 404) {
    const { code, message, details } = await session.statusError(answer, { attempted, scope: upload.scope })
    const hint = `Create the repository ${upload.repository} in ${session.registry} first: some registries do not create repositories automatically.`
    throw new LoamError(code, message, { details, hint })
  }
  await answer.response.body.dump()
  if (answer.response.statusCode !== 405) return answer
  throw new LoamError('REGISTRY_DENIED', `${attempted}: the registry answered 405: uploads are not allowed`, {
    details: { status: 405, registry: session.registry },
    hint: 'It may be a mirror, or read-only. Push to the registry that it is a mirror of.',
  })
}

interface BegunUpload extends Attempt {
  readonly begun: Answer
  readonly upload: Upload
}

async function sendBlob(
  session: EndpointSession,
  blob: Descriptor,
  open: () => Readable,
  { begun, upload, attempted, patience }: BegunUpload,
): Promise<void> {
  const at = ({ response, url }: Answer) => session.resolve(header(response, 'location'), url, attempted)
  const send = async (request: Pick<SessionRequest, 'url' | 'method' | 'headers' | 'accepts' | 'body'>) => {
    const answer = await session.request({
      ...request,
      scope: upload.scope,
      attempted,
      patience,
      signal: upload.signal,
      isOnce: true,
    })
    await answer.response.body.dump()
    return answer
  }
  const address = at(begun)
  const headers = { 'content-type': 'application/octet-stream', 'content-length': String(blob.sizeBytes) }
  const put = await send({
    url: withDigest(address, blob.digest),
    method: 'PUT',
    headers,
    body: open,
    accepts: [...ANY_SUCCESS, 405, 501],
  })
  if (ANY_SUCCESS.includes(put.response.statusCode)) return
  const patched = await send({ url: address, method: 'PATCH', headers, body: open, accepts: ANY_SUCCESS })
  await send({
    url: withDigest(at(patched), blob.digest),
    method: 'PUT',
    headers: { 'content-length': '0' },
    accepts: ANY_SUCCESS,
  })
}

/** Adds the digest to an upload's address. The rest of the query stays the same to the byte: it may be signed. */
function withDigest(address: URL, digest: Digest): URL {
  const url = new URL(address)
  url.search = `${url.search}${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`
  return url
}

function isWorthAnother(error: unknown): boolean {
  if (isLoamError(error, 'REGISTRY_UNREACHABLE', 'REGISTRY_STALLED')) return true
  const status = isLoamError(error) ? error.details['status'] : undefined
  return typeof status === 'number' && isRetriedStatus(status)
}
