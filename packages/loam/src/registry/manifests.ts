// Manifests and indexes at one endpoint. Source: OCI distribution-spec 1.1, "Pulling manifests".
import { isLoamError } from '../errors/index.ts'
import {
  type Digest,
  type ImageReference,
  inspectShape,
  isDigest,
  isIndexType,
  isSchema1,
  isVagueType,
  MANIFEST_ACCEPT,
  manifestSelector,
  parseStrictJson,
  plainType,
  SCHEMA_1_ACCEPT,
  schema1Payload,
} from '../image/index.ts'
import { getDocument, verify } from './document.ts'
import type { EndpointSession } from './endpoint-session.ts'
import { header } from './responses.ts'
import type { RetryOptions } from './retry.ts'
import { ANY_SUCCESS } from './uploads.ts'

/** Of registries that do not support HEAD. */
const NO_HEAD: readonly number[] = [400, 405, 501]

/** A manifest or an index of the registry; its digest is verified. */
export interface FetchedManifest {
  readonly bytes: Buffer
  readonly contentType: string | undefined
  readonly digest: Digest
}

/** A manifest that is requested of one endpoint, by its digest or its tag. */
export interface ManifestRequest {
  readonly reference: ImageReference
  readonly scope: string
  readonly retry: RetryOptions
  /** Largest manifest or index in bytes. */
  readonly manifestBytes: number
  readonly signal: AbortSignal | undefined
}

/** Gets a manifest or index. What a tag names is one, and no page of a proxy. @throws REGISTRY_*, IMAGE_NOT_FOUND, DIGEST_MISMATCH, DOCUMENT_* */
export async function readManifest(
  session: EndpointSession,
  { reference, manifestBytes, ...asked }: ManifestRequest,
): Promise<FetchedManifest> {
  const selector = manifestSelector(reference)
  const what = `manifest ${inRegistry(reference, selector)}`
  const attempted = `get ${what}`
  const request = {
    ...asked,
    path: `${reference.repository}/manifests/${selector}`,
    headers: { accept: [...MANIFEST_ACCEPT, ...SCHEMA_1_ACCEPT].join(', ') },
    attempted,
  }
  return getDocument(session, request, manifestBytes, (bytes, response) => {
    const stated = header(response, 'docker-content-digest')
    const expected = isDigest(selector) ? selector : isDigest(stated) ? stated : undefined
    const contentType = header(response, 'content-type')
    const signed = isSchema1(bytes, contentType) ? schema1Payload(bytes, attempted) : bytes
    const digest = verify(signed, expected, attempted)
    if (!isDigest(selector)) inspectShape(parseStrictJson(bytes, what), contentType, what)
    return { bytes, contentType, digest }
  })
}

/** What a registry has under a tag or a digest. */
export interface PushedManifest {
  readonly digest: Digest
  readonly isIndex: boolean
}

/** Returns what is under a tag or a digest; undefined if the registry says that there is none. @throws as `readManifest` */
export async function findPushed(
  session: EndpointSession,
  request: ManifestRequest,
): Promise<PushedManifest | undefined> {
  const { reference, scope, signal } = request
  const selector = manifestSelector(reference)
  const what = `manifest ${inRegistry(reference, selector)}`
  const response = await session.get({
    path: `${reference.repository}/manifests/${selector}`,
    method: 'HEAD',
    headers: { accept: [...MANIFEST_ACCEPT, ...SCHEMA_1_ACCEPT, '*/*'].join(', ') },
    scope,
    attempted: `look for ${what}`,
    accepts: [...ANY_SUCCESS, 404, ...NO_HEAD],
    signal,
  })
  await response.body.dump()
  const { statusCode } = response
  if (statusCode === 404) return undefined
  const digest = isDigest(selector) ? selector : header(response, 'docker-content-digest')
  const mediaType = plainType(header(response, 'content-type')) ?? ''
  const isTold = ANY_SUCCESS.includes(statusCode) && isDigest(digest) && !isVagueType(mediaType)
  if (isTold) return { digest, isIndex: isIndexType(mediaType) }
  const found = await unlessMissing(readManifest(session, request))
  if (found === undefined) return undefined
  const { isIndex } = inspectShape(parseStrictJson(found.bytes, what), found.contentType, what)
  return { digest: found.digest, isIndex }
}

/** Returns undefined for a manifest that does not exist. */
export async function unlessMissing(found: Promise<FetchedManifest>): Promise<FetchedManifest | undefined> {
  try {
    return await found
  } catch (error) {
    if (isLoamError(error, 'IMAGE_NOT_FOUND')) return undefined
    throw error
  }
}

/** Returns a reference as users write it: a digest follows an at sign, a tag a colon. */
export function inRegistry({ registry, repository }: ImageReference, selector: string): string {
  return `${registry}/${repository}${selector.includes(':') ? '@' : ':'}${selector}`
}
