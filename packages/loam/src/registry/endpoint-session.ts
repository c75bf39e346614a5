import type { Readable } from 'node:stream'
import { keepSecret, LoamError } from '../errors/index.ts'
import type { Authenticator } from './authenticator.ts'
import { parseChallenges } from './challenge.ts'
import type { Endpoint, TlsOptions } from './endpoints.ts'
import { errorCode, header, headerList, statusError, transportError } from './responses.ts'
import { isRetriedError, isRetriedStatus, type RetryOptions, waitBeforeRetry } from './retry.ts'
import type { Response, Transport } from './transport.ts'

const MAX_REDIRECTS = 5
const NO_TLS: TlsOptions = { ca: [], client: undefined, skipVerify: false }

export interface SessionOptions {
  readonly endpoint: Endpoint
  readonly registry: string
  readonly transport: Transport
  readonly authenticator: Authenticator
  readonly retry: RetryOptions
}

export interface SessionRequest {
  /** Below the endpoint's base: `library/busybox/blobs/sha256:…`. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** What a token has to allow. */
  readonly scope: string
  /** For messages: what is being done. */
  readonly attempted: string
  readonly signal?: AbortSignal | undefined
  /** Undefined: GET. */
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT'
  /** Makes the body, once for each try. */
  readonly body?: () => string | Buffer | Readable
  /** An address of the same origin, instead of the path. */
  readonly url?: URL
  /** Statuses that are no failure. Undefined: 200 and 206. */
  readonly accepts?: readonly number[]
}

const SUCCESS: readonly number[] = [200, 206]

/** Requests to one endpoint: retried, authenticated, redirected. */
export class EndpointSession {
  readonly #options: SessionOptions
  #base: string
  #isSchemeKnown: boolean

  constructor(options: SessionOptions) {
    this.#options = options
    this.#base = options.endpoint.base
    this.#isSchemeKnown = !options.endpoint.mayBePlain
  }

  /** The registry's host and port, for messages. */
  get registry(): string {
    return this.#options.registry
  }

  /** Returns an answer that is no failure, its body unread. @throws REGISTRY_*, IMAGE_NOT_FOUND, CANCELED */
  async get(request: SessionRequest): Promise<Response> {
    const { retry, registry } = this.#options
    for (let tried = 1; ; tried += 1) {
      let response: Response
      try {
        response = await this.#getOnce(request)
      } catch (error) {
        const isFinal = request.signal?.aborted === true || tried >= retry.tries || !isRetriedError(error)
        if (isFinal) throw transportError(error, request, registry)
        await waitBeforeRetry(tried, retry, request)
        continue
      }
      if ((request.accepts ?? SUCCESS).includes(response.statusCode)) return response
      if (tried >= retry.tries || !isRetriedStatus(response.statusCode)) {
        throw await statusError(response, request.attempted, registry)
      }
      await response.body.dump()
      await waitBeforeRetry(tried, retry, { response, signal: request.signal })
    }
  }

  /** Returns the address that the registry names, of its own origin: a token goes nowhere else. @throws REGISTRY_RESPONSE */
  resolve(location: string | undefined, attempted: string): URL {
    const url =
      location === undefined || !URL.canParse(location, this.#base)
        ? undefined
        : new URL(location, this.#base)
    if (url?.origin === new URL(this.#base).origin) return url
    throw new LoamError(
      'REGISTRY_RESPONSE',
      `${attempted}: the registry names no address of its own to send it to`,
    )
  }

  /** One answer of the registry itself, after authentication and redirects. */
  async #getOnce(request: SessionRequest): Promise<Response> {
    const { authenticator } = this.#options
    await this.#findScheme(request)
    const url = request.url ?? this.#urlOf(request.path)
    // The first time without or with an old token, then with a new one, and once more when that one has been withdrawn.
    for (let answered = 0; ; answered += 1) {
      const authorization = authenticator.authorization(request.scope)
      const response = await this.#send(url, request, authorization)
      const isDenied = response.statusCode === 403 && authorization === undefined && answered === 0
      if (isDenied && (await authenticator.offerPassword(request.scope, request.signal))) {
        await response.body.dump()
        continue
      }
      if (response.statusCode !== 401 || answered === 2) return this.#follow(response, url, request)
      const challenge = parseChallenges(headerList(response, 'www-authenticate'))
      const answer = { url, scope: request.scope, refused: authorization, signal: request.signal }
      if (!(await authenticator.answer(challenge, answer))) return response
      await response.body.dump()
    }
  }

  #urlOf(path: string): URL {
    const url = new URL(`${this.#base}/${path}`)
    const { namespace } = this.#options.endpoint
    if (namespace !== undefined) url.searchParams.set('ns', namespace)
    return url
  }

  async #send(url: URL, request: SessionRequest, authorization: string | undefined): Promise<Response> {
    const { endpoint, transport } = this.#options
    const body = request.body?.()
    return transport.request(url, {
      method: request.method ?? 'GET',
      ...(body === undefined ? {} : { body }),
      tls: endpoint.tls,
      headers: {
        ...request.headers,
        ...endpoint.headers,
        ...(authorization === undefined || authorization === '' ? {} : { authorization }),
      },
      signal: request.signal,
    })
  }

  async #follow(first: Response, from: URL, request: SessionRequest): Promise<Response> {
    let response = first
    let url = from
    if ((request.method ?? 'GET') !== 'GET') return first
    for (let hops = 0; [301, 302, 303, 307, 308].includes(response.statusCode); hops += 1) {
      const location = header(response, 'location')
      await response.body.dump()
      const next = this.#checkRedirect(url, location, hops, request.attempted)
      // A storage server gets nothing of what the registry gets: not the token, not a header of the configuration.
      response =
        next.origin === from.origin
          ? await this.#send(next, request, this.#options.authenticator.authorization(request.scope))
          : await this.#options.transport.request(next, {
              tls: NO_TLS,
              headers: request.headers,
              signal: request.signal,
            })
      url = next
    }
    return response
  }

  #checkRedirect(url: URL, location: string | undefined, hops: number, attempted: string): URL {
    const refuse = (why: string) => new LoamError('REGISTRY_RESPONSE', `${attempted}: ${why}`)
    if (hops >= MAX_REDIRECTS) throw refuse(`more than ${MAX_REDIRECTS} redirects`)
    if (location === undefined || !URL.canParse(location, url.href)) throw refuse('a redirect to nowhere')
    const next = new URL(location, url)
    // Whoever has the query may get the file.
    for (const value of next.searchParams.values()) keepSecret(value)
    if (next.protocol !== 'https:' && next.protocol !== 'http:')
      throw refuse(`a redirect to ${next.protocol}`)
    if (next.protocol === 'http:' && url.protocol === 'https:') throw refuse('a redirect from https to http')
    return next
  }

  /**
   * Finds out whether a registry that may be plain speaks TLS. Only "this is not TLS" leads to http: a certificate
   * that does not hold is an error and never a reason to go without.
   */
  async #findScheme(request: SessionRequest): Promise<void> {
    if (this.#isSchemeKnown) return
    const { endpoint, transport } = this.#options
    try {
      const probe = await transport.request(new URL(`${this.#base}/`), {
        tls: endpoint.tls,
        signal: request.signal,
      })
      await probe.body.dump()
    } catch (error) {
      if (!/^(?:EPROTO|ERR_SSL_|ECONNRESET|UND_ERR_SOCKET)/.test(errorCode(error))) throw error
      this.#base = this.#base.replace(/^https:/, 'http:')
    }
    this.#isSchemeKnown = true
  }
}
