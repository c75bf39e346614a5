// Manifests and indexes at one endpoint. Source: OCI distribution-spec 1.1, "Pulling manifests".
import { isLoamError } from '../errors/index.ts'
import {
  type Digest,
  type ImageReference,
  inspectShape,
  isDigest,
  isSchema1,
  MANIFEST_ACCEPT,
  manifestSelector,
  parseStrictJson,
  SCHEMA_1_ACCEPT,
  schema1Payload,
} from '../image/index.ts'
import { getDocument, verify } from './document.ts'
import type { EndpointSession } from './endpoint-session.ts'
import { header } from './responses.ts'
import type { RetryOptions } from './retry.ts'

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
