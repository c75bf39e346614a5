import { LoamError } from '../errors/index.ts'
import { Authenticator } from './authenticator.ts'
import { type BlobRequest, streamBlob } from './blob-stream.ts'
import { EndpointSession } from './endpoint-session.ts'
import { type EndpointOptions, findEndpoints, findHostRules, isHostOf, isNamed } from './endpoints.ts'
import { tlsOfTarget } from './redirects.ts'
import { header, readBody, transportError } from './responses.ts'
import type { RetryOptions } from './retry.ts'
import { Transport, type TransportOptions } from './transport.ts'

export interface FileClientOptions extends EndpointOptions, TransportOptions {
  readonly retry: RetryOptions
}

/** A file that is streamed. */
interface StreamOptions {
  /** The page or the registry that names it; undefined if a user does. */
  readonly namedBy?: URL | undefined
  /** The part of it, and its size if that is known. */
  readonly wanted?: Pick<BlobRequest, 'sizeBytes' | 'fromByte' | 'endByte' | 'onWhole'>
}

/** A small document of a web server. */
export interface FetchedDocument {
  readonly bytes: Buffer
  readonly contentType: string | undefined
}

/**
 * Gets files of web servers, with the certificates, proxies, limits and tries of registries. It sends no credentials. Owns its
 * connections; closed by `await using`.
 */
export class FileClient implements AsyncDisposable {
  readonly #options: FileClientOptions
  readonly #transport: Transport

  /** `transport` is that of a client which knows who named the files, and which closes it. */
  constructor(options: FileClientOptions, transport = new Transport(options)) {
    this.#options = options
    this.#transport = transport
  }

  /** Whether plain http may be used for a host. */
  mayBePlain(host: string): boolean {
    return isNamed(host, this.#options.insecure)
  }

  /** Gets a small document. @throws REGISTRY_*, IMAGE_NOT_FOUND, DOCUMENT_TOO_LARGE */
  async get(url: URL, maxBytes: number, signal?: AbortSignal): Promise<FetchedDocument> {
    const attempted = `get ${url.href}`
    const response = await this.#session(url).get(toRequest(url, attempted, signal))
    try {
      return {
        bytes: await readBody(response, maxBytes, url.href),
        contentType: header(response, 'content-type'),
      }
    } catch (error) {
      throw transportError(error, { attempted, signal }, url.host)
    }
  }

  /** Streams a file, and resumes after an interruption. All bytes are of one version of it. @throws as `get`, SIZE_MISMATCH */
  stream(url: URL, signal?: AbortSignal, { namedBy, wanted }: StreamOptions = {}): AsyncGenerator<Buffer> {
    return streamBlob(this.#session(url, namedBy), {
      sizeBytes: -1,
      isUnverified: wanted === undefined,
      ...wanted,
      ...toRequest(url, `get ${url.href}`, signal),
      registry: url.host,
      retry: this.#options.retry,
    })
  }

  #session(url: URL, namedBy?: URL): EndpointSession {
    if (url.protocol !== 'https:' && url.protocol !== 'http:') {
      throw new LoamError('SOURCE_INVALID', `get ${url.href}: its scheme is neither https nor http`)
    }
    const { retry } = this.#options
    const transport = this.#transport
    const rulesOf = (host: string) => findHostRules(host, this.#options)
    // A user or the configuration has named this host; others are named by servers.
    const isOwn = ({ base }: { readonly base: string }) => isHostOf(new URL(base), url.host)
    const tls =
      namedBy === undefined
        ? (findEndpoints(url.host, this.#options).findLast(isOwn)?.tls ?? rulesOf(url.host).tls)
        : tlsOfTarget(url, rulesOf(namedBy.host).tls, rulesOf)
    const authenticator = new Authenticator({
      registry: url.host,
      credentials: { find: async () => undefined },
      transport,
      tls,
      rulesOf,
      now: () => performance.now(),
    })
    const endpoint = {
      base: url.origin,
      tls,
      headers: {},
      isMirror: false,
      namespace: undefined,
      mayBePlain: false,
      mayResolve: true,
      connectTimeoutMs: undefined,
    }
    return new EndpointSession({
      endpoint,
      registry: url.host,
      transport,
      authenticator,
      retry,
      rulesOf,
      namedBy,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]()
  }
}

function toRequest(url: URL, attempted: string, signal: AbortSignal | undefined) {
  return { path: `${url.pathname.slice(1)}${url.search}`, headers: {}, scope: '', attempted, signal }
}
