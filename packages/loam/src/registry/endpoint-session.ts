import type { Readable } from 'node:stream'
import { traceHeaders } from '../activity/index.ts'
import { LoamError } from '../errors/index.ts'
import type { Authenticator } from './authenticator.ts'
import { type Challenge, findChallenge, parseChallenges } from './challenge.ts'
import type { Endpoint } from './endpoints.ts'
import { AddressRefusal } from './proxies.ts'
import {
  type FindHostRules,
  isRedirect,
  MAX_REDIRECTS,
  type Method,
  resolveAddress,
  tlsOfTarget,
} from './redirects.ts'
import { errorCode, header, headerList, statusError, transportError } from './responses.ts'
import { isRetriedError, isRetriedStatus, Patience, type RetryOptions } from './retry.ts'
import type { Response, Transport } from './transport.ts'

export interface SessionOptions {
  readonly endpoint: Endpoint
  readonly registry: string
  readonly transport: Transport
  readonly authenticator: Authenticator
  readonly retry: RetryOptions
  /** Finds the rules for hosts that the registry names. */
  readonly rulesOf: FindHostRules
  /** The server that named this one; undefined if a user or the configuration did. */
  readonly namedBy?: URL | undefined
}

export interface SessionRequest {
  /** Below the endpoint's base: `library/busybox/blobs/sha256:…`. */
  readonly path?: string
  readonly headers: Readonly<Record<string, string>>
  /** Scope that a token must allow. */
  readonly scope: string
  /** The attempt, for messages. */
  readonly attempted: string
  readonly signal?: AbortSignal | undefined
  /** Undefined: GET. */
  readonly method?: Method
  /** Creates the body, once for each try. */
  readonly body?: (() => string | Buffer | Readable) | undefined
  /** An address that the registry has named, instead of the path. */
  readonly url?: URL | undefined
  /** Statuses of success. Undefined: 200 and 206. */
  readonly accepts?: readonly number[] | undefined
  /** Whether a failure is final, because the caller repeats a larger step. */
  readonly isOnce?: boolean
  /** The patience of a larger request that this one is part of. */
  readonly patience?: Patience | undefined
}

/** A response, and the address that it came from after redirects. */
export interface Answer {
  readonly response: Response
  readonly url: URL
}

const SUCCESS: readonly number[] = [200, 206]
const NO_TLS = /^(?:EPROTO|ERR_SSL_|ECONNRESET|UND_ERR_SOCKET)/
/** Failures that mean that no server listens on port 443, also behind a proxy. */
const NO_SERVER = /^(?:ECONNREFUSED|EHOSTUNREACH|ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT|PROXY_REFUSED)$/

/** Requests to one endpoint: retried, authenticated, redirected. */
export class EndpointSession {
  readonly #options: SessionOptions
  #base: string
  #isSchemeKnown: boolean
  /** The challenge of /v2/, once it is known. */
  #challenge: { readonly found: Challenge | undefined } | undefined

  constructor(options: SessionOptions) {
    this.#options = options
    this.#base = options.endpoint.base
    this.#isSchemeKnown = !options.endpoint.mayBePlain
  }

  /** The registry's host and port, for messages. */
  get registry(): string {
    return this.#options.registry
  }

  /** Whether this is a mirror, and not the registry itself. */
  get isMirror(): boolean {
    return this.#options.endpoint.isMirror
  }

  /** Whether it may say which image a tag names. */
  get mayResolve(): boolean {
    return this.#options.endpoint.mayResolve
  }

  /** As `request`, but returns the response only. */
  async get(request: SessionRequest): Promise<Response> {
    return (await this.request(request)).response
  }

  /** Makes a request for its authentication alone. Returns whether the registry asked for credentials. @throws as `request` */
  async checkLogin(request: SessionRequest): Promise<boolean> {
    const { response } = await this.request({ ...request, accepts: [200, 404] })
    await response.body.dump()
    return this.#options.authenticator.authorization(request.scope) !== undefined
  }

  /** Returns a successful answer, its body unread. @throws REGISTRY_*, IMAGE_NOT_FOUND, CANCELED */
  async request(request: SessionRequest): Promise<Answer> {
    const { retry, registry } = this.#options
    const patience = request.patience ?? new Patience(retry, request)
    const mayTry = async (failure: Parameters<Patience['wait']>[0]) =>
      request.isOnce !== true && (await patience.wait(failure))
    for (;;) {
      let answer: Answer
      try {
        answer = await this.#requestOnce(request, patience)
      } catch (error) {
        const isFinal = request.signal?.aborted === true || !isRetriedError(error)
        if (isFinal || !(await mayTry({ error }))) throw transportError(error, request, registry)
        continue
      }
      const { response } = answer
      if ((request.accepts ?? SUCCESS).includes(response.statusCode)) return answer
      if (!isRetriedStatus(response.statusCode)) throw await this.statusError(answer, request)
      if (!(await mayTry({ response })))
        throw await this.statusError(answer, { ...request, note: patience.refusal(response) })
      await response.body.dump()
    }
  }

  /** Builds the error for a response whose status is not a success. */
  async statusError(
    { response, url }: Answer,
    {
      attempted,
      scope,
      note,
    }: { readonly attempted: string; readonly scope: string; readonly note?: string },
  ): Promise<LoamError> {
    const { transport, registry, authenticator } = this.#options
    return statusError(response, attempted, {
      registry,
      note,
      ...(this.isOwn(url) ? {} : { host: url.host, role: 'storage' }),
      proxy: url.protocol === 'http:' ? transport.proxyName(url) : undefined,
      accountHint: authenticator.refusalHint(scope),
    })
  }

  /** Returns the address that an answer from `from` names. @throws REGISTRY_RESPONSE */
  resolve(location: string | undefined, from: URL, attempted: string): URL {
    return resolveAddress(location, from, { attempted, rulesOf: this.#options.rulesOf })
  }

  /** Returns one answer, after authentication and redirects. */
  async #requestOnce(request: SessionRequest, patience: Patience): Promise<Answer> {
    await this.#findScheme(request)
    const method = request.method ?? 'GET'
    let url = request.url ?? this.urlOf(request.path ?? '')
    let hops = 0
    // First without a token or with an old one, then with a new one, and once more if that one was revoked.
    let answered = 0
    for (;;) {
      const authorization = this.isOwn(url)
        ? this.#options.authenticator.authorization(request.scope)
        : undefined
      const isServers = hops > 0 || request.url !== undefined
      const response = await this.#send(url, request, { authorization, isServers })
      if (isRedirect(response.statusCode, method)) {
        await response.body.dump()
        if (hops >= MAX_REDIRECTS) throw tooManyRedirects(request.attempted)
        hops += 1
        url = this.resolve(header(response, 'location'), url, request.attempted)
        continue
      }
      const isAnswered =
        answered < 2 &&
        this.isOwn(url) &&
        (await this.#authenticate(response, request, {
          url,
          authorization,
          isFirst: answered === 0,
          patience,
        }))
      if (!isAnswered) return { response, url }
      await response.body.dump()
      answered += 1
    }
  }

  /** Answers a refusal. Returns whether there is something new to try. */
  async #authenticate(
    response: Response,
    request: SessionRequest,
    asked: { url: URL; authorization: string | undefined; isFirst: boolean; patience: Patience },
  ): Promise<boolean> {
    const { authenticator } = this.#options
    const { scope, signal } = request
    const { url, authorization, isFirst, patience } = asked
    const status = response.statusCode
    const headers = headerList(response, 'www-authenticate')
    const own = findChallenge(headers)
    const answer = async (challenge: Challenge) =>
      authenticator.answer(challenge, { url, scope, refused: authorization, signal, patience })
    // RFC 6750, 3.1
    if (status === 401 || (status === 403 && own?.parameters.get('error') === 'insufficient_scope')) {
      const challenge = own ?? (await this.#askForChallenge(request))
      // Other schemes than Basic and Bearer are an error.
      return challenge === undefined && headers.length === 0
        ? false
        : answer(challenge ?? parseChallenges(headers))
    }
    // Some registries deny or hide a repository without asking for a password.
    const isHidden = (status === 403 || status === 404) && authorization === undefined && isFirst
    if (!isHidden || !(await authenticator.hasCredential(scope, signal))) return false
    const challenge = own ?? (await this.#askForChallenge(request))
    if (challenge !== undefined) return answer(challenge)
    return status === 403 && authenticator.offerPassword(scope, signal)
  }

  /**
   * Gets the challenge of /v2/, once. docker, podman and crane always begin there; some registries send a challenge nowhere else
   * (containerd/containerd#3291). Source: distribution's "API Version Check".
   */
  async #askForChallenge({ attempted, scope, signal }: SessionRequest): Promise<Challenge | undefined> {
    // Other web servers have no /v2/.
    if (scope === '') return undefined
    if (this.#challenge === undefined) {
      const response = await this.#send(
        new URL(`${this.#base}/`),
        { headers: {}, attempted, scope, signal },
        { authorization: undefined, isServers: false },
      )
      await response.body.dump()
      const headers = response.statusCode === 401 ? headerList(response, 'www-authenticate') : []
      this.#challenge = { found: findChallenge(headers) }
    }
    return this.#challenge.found
  }

  /** Returns whether an address belongs to the registry itself: secrets for the registry are never sent elsewhere. */
  isOwn(url: URL): boolean {
    return url.origin === new URL(this.#base).origin
  }

  /** Returns the address of a path below the endpoint's base. */
  urlOf(path: string): URL {
    const url = new URL(`${this.#base}/${path}`)
    const { namespace } = this.#options.endpoint
    if (namespace !== undefined) url.searchParams.set('ns', namespace)
    return url
  }

  /** Sends a request. `isServers`: the server named the address, which may resolve to another server than before. */
  async #send(
    url: URL,
    request: SessionRequest,
    { authorization, isServers }: { readonly authorization: string | undefined; readonly isServers: boolean },
  ): Promise<Response> {
    const { endpoint, transport, rulesOf } = this.#options
    const body = request.body?.()
    const isOwn = this.isOwn(url)
    const asker = isOwn && !isServers ? this.#options.namedBy : new URL(this.#base)
    const mayBeNear = asker === undefined || rulesOf(url.host).mayBePrivateTarget
    const answering = transport.request(url, {
      method: request.method ?? 'GET',
      ...(body === undefined ? {} : { body }),
      tls: isOwn ? endpoint.tls : tlsOfTarget(url, endpoint.tls, rulesOf),
      headers: {
        ...request.headers,
        // A server that another one named is not part of the caller's system.
        ...(isOwn && this.#options.namedBy === undefined ? traceHeaders() : {}),
        ...(isOwn ? endpoint.headers : {}),
        ...(authorization === undefined || authorization === '' ? {} : { authorization }),
      },
      signal: request.signal,
      ...(isOwn ? { connectTimeoutMs: endpoint.connectTimeoutMs } : {}),
      ...(mayBeNear ? {} : { nearest: transport.nearestFor(asker) }),
    })
    try {
      return await answering
    } catch (error) {
      throw error instanceof AddressRefusal ? this.#tooNear(url, error, request) : error
    }
  }

  /** Creates the error for an address that only this machine can reach: itself, cloud metadata, a private network. */
  #tooNear({ host }: URL, { address }: AddressRefusal, { attempted }: SessionRequest): LoamError {
    const { registry, namedBy } = this.#options
    const sender = namedBy?.host ?? registry
    return new LoamError(
      'REGISTRY_RESPONSE',
      `${attempted}: ${sender} redirects to ${host} at the private address ${address}`,
      { hint: `If you trust this redirect, allow it with --private_redirects=${host}.` },
    )
  }

  /**
   * Finds out whether a registry that may use plain http uses TLS. Only an answer without TLS, or no server on that port, leads to
   * http. Certificates are not verified here: an invalid one is an error of the request itself, and never a reason to use http.
   */
  async #findScheme(request: SessionRequest): Promise<void> {
    if (this.#isSchemeKnown) return
    const { endpoint, transport } = this.#options
    try {
      const probe = await transport.request(new URL(`${this.#base}/`), {
        tls: { ...endpoint.tls, ca: [], skipVerify: true },
        connectTimeoutMs: endpoint.connectTimeoutMs,
        signal: request.signal,
      })
      await probe.body.dump()
    } catch (error) {
      const isAbsent = new URL(this.#base).port === '' && NO_SERVER.test(errorCode(error))
      if (!isAbsent && !NO_TLS.test(errorCode(error))) throw error
      this.#base = this.#base.replace(/^https:/, 'http:')
    }
    this.#isSchemeKnown = true
  }
}

function tooManyRedirects(attempted: string): LoamError {
  return new LoamError('REGISTRY_RESPONSE', `${attempted}: more than ${MAX_REDIRECTS} redirects`)
}
