import type { Readable } from 'node:stream'
import { LoamError } from '../errors/index.ts'
import {
  type Descriptor,
  type Digest,
  digestOf,
  type ImageReference,
  isDigest,
  isForeign,
  manifestSelector,
  splitDigest,
} from '../image/index.ts'
import { Authenticator } from './authenticator.ts'
import type { CredentialSource } from './credentials.ts'
import { getDocument, verify } from './document.ts'
import { type EndpointOrder, type OrderedBlob, streamInOrder, tryInOrder } from './endpoint-order.ts'
import { EndpointSession } from './endpoint-session.ts'
import { type EndpointOptions, findEndpoints, findHostRules } from './endpoints.ts'
import { FileClient } from './file-client.ts'
import { type ForeignBlobOptions, streamForeign } from './foreign-blob.ts'
import {
  type FetchedManifest,
  findPushed,
  inRegistry,
  type ManifestRequest,
  type PushedManifest,
  readManifest,
  unlessMissing,
} from './manifests.ts'
import { readReferrers } from './referrers.ts'
import { header } from './responses.ts'
import type { RetryOptions } from './retry.ts'
import { pullScope, pushScope } from './scopes.ts'
import { listTags, type TagBounds } from './tags.ts'
import { Transport, type TransportOptions } from './transport.ts'
import { ANY_SUCCESS, mountBlob, type Upload, uploadBlob } from './uploads.ts'

export interface RegistryClientOptions extends EndpointOptions, TransportOptions {
  readonly credentials: CredentialSource
  readonly retry: RetryOptions
  /** Largest manifest or index in bytes. */
  readonly manifestBytes: number
}

/** A part of a blob. */
export interface BlobRange {
  /** Undefined: 0. */
  readonly fromByte?: number | undefined
  /** The byte after the last wanted one. Undefined: all that follows. */
  readonly endByte?: number | undefined
  /** Called when a registry without ranges sends the blob from its start, which costs as much as the whole blob. */
  readonly onWhole?: (() => void) | undefined
}

/**
 * A client of the distribution API. Tries the mirrors of a registry before the registry. Owns its
 * connections; closed by `await using`.
 * Source: OCI distribution-spec 1.1; distribution's token authentication.
 */
export class RegistryClient implements AsyncDisposable {
  readonly #options: RegistryClientOptions
  readonly #transport: Transport
  readonly #sessions = new Map<string, EndpointSession[]>()
  /** The endpoints that have sent bytes of a blob. */
  readonly #senders = new Map<Digest, Set<EndpointSession>>()

  constructor(options: RegistryClientOptions) {
    this.#options = options
    this.#transport = new Transport(options)
  }

  /** Gets the manifest or index of a reference, by its digest if it has one. @throws REGISTRY_*, IMAGE_NOT_FOUND, DIGEST_MISMATCH, DOCUMENT_TOO_LARGE */
  async getManifest(reference: ImageReference, signal?: AbortSignal): Promise<FetchedManifest> {
    const need = isDigest(manifestSelector(reference)) ? 'content' : 'names'
    return tryInOrder(this.#orderOf(reference, need), async (session, retry) =>
      readManifest(session, { ...this.#manifestOf(reference, pullScope(reference), signal), retry }),
    )
  }

  #manifestOf(reference: ImageReference, scope: string, signal: AbortSignal | undefined): ManifestRequest {
    const { manifestBytes, retry } = this.#options
    return { reference, scope, retry, manifestBytes, signal }
  }

  /**
   * Asks the registry itself whether it accepts the credentials, as docker and podman do: by the address of its API. Returns whether it asked for them at all.
   * @throws REGISTRY_UNAUTHORIZED, and as `getManifest`
   */
  async checkLogin(registry: string, signal?: AbortSignal): Promise<boolean> {
    const session = this.#sessionsOf(registry).find(({ isMirror }) => !isMirror)
    if (session === undefined)
      throw new LoamError('CONFIG_INVALID', `log in to ${registry}: no address is configured`)
    return session.checkLogin({
      path: '',
      headers: {},
      scope: '',
      attempted: `log in to ${registry}`,
      signal,
    })
  }

  /** Gets a small blob and verifies it against its descriptor. @throws as `getManifest`, SIZE_MISMATCH */
  async getBlob(
    reference: ImageReference,
    blob: Descriptor,
    options: { readonly maxBytes: number; readonly signal?: AbortSignal | undefined },
  ): Promise<Buffer> {
    const attempted = `get blob ${blob.digest} of ${reference.repository}`
    if (blob.sizeBytes > options.maxBytes) {
      throw new LoamError(
        'DOCUMENT_TOO_LARGE',
        `${attempted}: it has ${blob.sizeBytes} bytes, the limit is ${options.maxBytes}`,
      )
    }
    return tryInOrder(this.#orderOf(reference), async (session, retry) => {
      const request = this.#blobRequest(reference, blob, attempted, options.signal)
      return getDocument(session, { ...request, retry }, blob.sizeBytes, (bytes) => {
        if (bytes.length !== blob.sizeBytes) {
          throw new LoamError(
            'SIZE_MISMATCH',
            `${attempted}: expected ${blob.sizeBytes} bytes, got ${bytes.length}`,
          )
        }
        verify(bytes, blob.digest, attempted)
        return bytes
      })
    })
  }

  /**
   * Gets the indexes of the referrers of an image, such as signatures: one for each page of the registry's answer. From a registry without the referrers
   * API it gets the tag `sha256-…`, in which clients keep that index. The registry itself is asked first: a mirror may know only some. @throws REGISTRY_*
   */
  async getReferrers(
    reference: ImageReference,
    digest: Digest,
    signal?: AbortSignal,
  ): Promise<readonly Buffer[]> {
    const order = this.#ownFirst(reference)
    return tryInOrder(order, async (session, retry) =>
      readReferrers(session, { ...this.#manifestOf(reference, pullScope(reference), signal), retry }, digest),
    )
  }

  /**
   * Lists the tags of a reference's repository. The registry itself is asked first: a mirror may know only some.
   * @throws REGISTRY_*, IMAGE_NOT_FOUND for a repository that does not exist
   */
  async listTags(
    reference: ImageReference,
    options: { readonly signal?: AbortSignal | undefined } & TagBounds = {},
  ): Promise<string[]> {
    const { registry, repository } = reference
    const attempted = `list tags of ${registry}/${repository}`
    const request = { repository, scope: pullScope(reference), attempted, ...options }
    return tryInOrder(this.#ownFirst(reference), async (session, retry) =>
      listTags(session, { ...request, retry }),
    )
  }

  /** As `getManifest`, but undefined if it does not exist. @throws REGISTRY_* */
  async findManifest(reference: ImageReference, signal?: AbortSignal): Promise<FetchedManifest | undefined> {
    return unlessMissing(this.getManifest(reference, signal))
  }

  /** As `findManifest`, but from the registry itself: what is written back there must not be what a mirror has kept. @throws REGISTRY_* */
  async findOwnManifest(
    reference: ImageReference,
    signal?: AbortSignal,
  ): Promise<FetchedManifest | undefined> {
    const request = this.#manifestOf(reference, pushScope(reference), signal)
    return unlessMissing(readManifest(this.#ownSession(reference), request))
  }

  /** Streams a blob or a part of it; the consumer verifies size and digest. An endpoint that fails in the middle is replaced by the next one. */
  async *streamBlob(
    reference: ImageReference,
    blob: Descriptor,
    signal?: AbortSignal,
    { fromByte = 0, endByte, onWhole }: BlobRange = {},
  ): AsyncGenerator<Buffer> {
    const attempted = `get blob ${blob.digest} of ${reference.repository}`
    const request = { ...this.#blobRequest(reference, blob, attempted, signal), endByte, onWhole }
    const senders = this.#senders.get(blob.digest) ?? new Set()
    this.#senders.set(blob.digest, senders)
    const order = this.#orderOf(reference)
    // A blob that is requested once more from its start was wrong: other mirrors may have got the same, so that the registry comes first then.
    const isWrong = fromByte === 0 && order.sessions.some((each) => each.isMirror && senders.has(each))
    const rank = (session: EndpointSession) =>
      isWrong && session.isMirror ? 1 + Number(senders.has(session)) : 0
    const sessions = order.sessions.toSorted((a, b) => rank(a) - rank(b))
    const wanted = { ...request, sizeBytes: blob.sizeBytes, fromByte }
    const inOrder = () => streamInOrder({ ...order, sessions }, wanted, (session) => senders.add(session))
    if (isForeign(blob)) yield* streamForeign(inOrder, blob, this.#elsewhere(reference, wanted))
    else yield* inOrder()
  }

  /** What is needed to fetch a blob from an address that the registry names. */
  #elsewhere(reference: ImageReference, wanted: OrderedBlob): ForeignBlobOptions {
    const files = new FileClient(this.#options, this.#transport)
    const namedBy = this.#ownSession(reference).urlOf('')
    return { files, namedBy, wanted, rulesOf: (host) => findHostRules(host, this.#options) }
  }

  /** Returns whether the registry itself has a blob in a repository. @throws REGISTRY_* */
  async hasBlob(reference: ImageReference, digest: Digest, signal?: AbortSignal): Promise<boolean> {
    const session = this.#ownSession(reference)
    const attempted = `look for blob ${digest} in ${reference.repository}`
    const answer = await session.request({
      path: `${reference.repository}/blobs/${digest}`,
      method: 'HEAD',
      headers: {},
      scope: pushScope(reference),
      attempted,
      accepts: [...ANY_SUCCESS, 403, 404, 405],
      signal,
    })
    // Storage whose addresses are signed for GET denies HEAD; then the blob is uploaded again.
    if (answer.response.statusCode === 403 && session.isOwn(answer.url))
      throw await session.statusError(answer, { attempted, scope: pushScope(reference) })
    await answer.response.body.dump()
    return ANY_SUCCESS.includes(answer.response.statusCode)
  }

  /** Uploads a blob; `open` is called once for each try. @throws REGISTRY_* */
  async putBlob(
    reference: ImageReference,
    blob: Descriptor,
    open: () => Readable,
    signal?: AbortSignal,
  ): Promise<void> {
    await uploadBlob(this.#ownSession(reference), blob, open, this.#upload(reference, signal))
  }

  /** Mounts a blob from another repository of the registry; returns whether the registry did. @throws REGISTRY_* */
  async mountBlob(
    reference: ImageReference,
    digest: Digest,
    from: string,
    signal?: AbortSignal,
  ): Promise<boolean> {
    return mountBlob(this.#ownSession(reference), digest, from, this.#upload(reference, signal))
  }

  #upload(reference: ImageReference, signal: AbortSignal | undefined): Upload {
    const { repository } = reference
    return { repository, scope: pushScope(reference), signal, retry: this.#options.retry }
  }

  /** Returns what the registry itself (no mirror) has under the tag or digest of a reference; undefined if there is none. @throws REGISTRY_*, DOCUMENT_* */
  async findPushed(reference: ImageReference, signal?: AbortSignal): Promise<PushedManifest | undefined> {
    const request = this.#manifestOf(reference, pushScope(reference), signal)
    return findPushed(this.#ownSession(reference), request)
  }

  /**
   * Uploads a manifest under the tag or digest of a reference. Returns whether the registry lists it as a referrer of its subject. @throws REGISTRY_*,
   * DIGEST_MISMATCH when the registry says that it keeps another one
   */
  async putManifest(
    reference: ImageReference,
    mediaType: string,
    bytes: Buffer,
    signal?: AbortSignal,
  ): Promise<{ readonly isListed: boolean }> {
    const selector = manifestSelector(reference)
    const attempted = `upload manifest ${inRegistry(reference, selector)}`
    const response = await this.#ownSession(reference).get({
      path: `${reference.repository}/manifests/${selector}`,
      method: 'PUT',
      headers: { 'content-type': mediaType, 'content-length': String(bytes.length) },
      body: () => bytes,
      scope: pushScope(reference),
      attempted,
      accepts: ANY_SUCCESS,
      signal,
    })
    await response.body.dump()
    const stated = header(response, 'docker-content-digest')
    const isListed = header(response, 'oci-subject') !== undefined
    if (!isDigest(stated) || stated === digestOf(bytes, splitDigest(stated).algorithm)) return { isListed }
    throw new LoamError(
      'DIGEST_MISMATCH',
      `${attempted}: the registry stored a different manifest, ${stated}`,
    )
  }

  /** Returns a session with the registry itself: mirrors are for pulls only. */
  #ownSession(reference: ImageReference): EndpointSession {
    const session = this.#sessionsOf(reference.registry).find(({ isMirror }) => !isMirror)
    if (session !== undefined) return session
    throw new LoamError('CONFIG_INVALID', `push to ${reference.registry}: no address is configured`)
  }

  #blobRequest(
    reference: ImageReference,
    blob: Descriptor,
    attempted: string,
    signal: AbortSignal | undefined,
  ) {
    const path = `${reference.repository}/blobs/${blob.digest}`
    return { path, headers: {}, scope: pullScope(reference), attempted, signal }
  }

  /** Returns the endpoints of a reference's registry; without those that may not resolve names, if a name is to be resolved. */
  #orderOf({ registry }: ImageReference, need: 'content' | 'names' = 'content'): EndpointOrder {
    const sessions = this.#sessionsOf(registry).filter((session) => need === 'content' || session.mayResolve)
    return { registry, sessions, retry: this.#options.retry }
  }

  /** The endpoints for a list, of which a mirror may have only a part: the registry itself comes first. */
  #ownFirst(reference: ImageReference): EndpointOrder {
    const order = this.#orderOf(reference, 'names')
    const sessions = order.sessions.toSorted((a, b) => Number(a.isMirror) - Number(b.isMirror))
    return { ...order, sessions }
  }

  #sessionsOf(registry: string): EndpointSession[] {
    const known = this.#sessions.get(registry)
    if (known !== undefined) return known
    const { credentials, retry } = this.#options
    const transport = this.#transport
    const sessions = findEndpoints(registry, this.#options).map((endpoint) => {
      // Another host has other accounts.
      const host = endpoint.namespace === undefined ? registry : new URL(endpoint.base).host
      const rulesOf = (named: string) => findHostRules(named, this.#options)
      const authenticator = new Authenticator({
        registry: host,
        credentials,
        transport,
        tls: endpoint.tls,
        rulesOf,
        now: () => performance.now(),
      })
      return new EndpointSession({ endpoint, registry: host, transport, authenticator, retry, rulesOf })
    })
    this.#sessions.set(registry, sessions)
    return sessions
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]()
  }
}
