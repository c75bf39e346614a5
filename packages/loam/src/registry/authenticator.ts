import * as v from 'valibot'
import { keepSecret, LoamError } from '../errors/index.ts'
import { SingleFlight } from '../content/index.ts'
import { check, parseStrictJson } from '../image/index.ts'
import { bareHost, isLoopback, reachOf } from './addresses.ts'
import type { Challenge } from './challenge.ts'
import type { Credential, CredentialSource } from './credentials.ts'
import type { TlsOptions } from './endpoints.ts'
import { readBody, statusError } from './responses.ts'
import { isRetriedStatus, type Patience } from './retry.ts'
import type { Response, Transport } from './transport.ts'

const MAX_TOKEN_BYTES = 1 << 20
/** What distribution's specification says for a token without expires_in. */
const DEFAULT_LIFETIME_S = 60

const TokenSchema = v.object({
  token: v.nullish(v.string()),
  access_token: v.nullish(v.string()),
  expires_in: v.nullish(v.number()),
})

interface Access {
  readonly authorization: string
  readonly expiresAtMs: number
}

export interface AuthenticatorOptions {
  /** The registry as the user names it; what credentials are kept under. */
  readonly registry: string
  readonly credentials: CredentialSource
  readonly transport: Transport
  readonly tls: TlsOptions
  /** A monotonic clock in ms: the time of day may jump, and a server's may be wrong. */
  readonly now: () => number
}

/**
 * Says who we are to one origin. Credentials belong to a scheme, host and port: nothing of them goes to a redirect's
 * target, and a password goes to a token server only over TLS or on the registry's own host.
 */
export class Authenticator {
  readonly #options: AuthenticatorOptions
  readonly #access = new Map<string, Access>()
  readonly #obtaining = new SingleFlight()
  readonly #used = new Map<string, Credential | undefined>()

  constructor(options: AuthenticatorOptions) {
    this.#options = options
  }

  /** Returns the Authorization header that is good for a scope now. */
  authorization(scope: string): string | undefined {
    const access = this.#access.get(scope)
    return access !== undefined && access.expiresAtMs > this.#options.now() ? access.authorization : undefined
  }

  /**
   * Answers a challenge of the registry at `url`, once for all who wait for the same scope. `refused` is the header
   * that the challenge came for. Returns false when there is nothing (more) to answer with.
   */
  async answer(
    challenge: Challenge,
    request: {
      readonly url: URL
      readonly scope: string
      readonly refused: string | undefined
      readonly patience: Patience
      readonly signal?: AbortSignal | undefined
    },
  ): Promise<boolean> {
    const { scope, refused, signal } = request
    const isKnown = () => {
      const current = this.authorization(scope)
      return current !== undefined && current !== refused
    }
    if (isKnown()) return true
    const obtain = async (given: AbortSignal) => {
      this.#access.delete(scope)
      this.#access.set(scope, await this.#obtain(challenge, { ...request, signal: given }))
    }
    let isOwn = false
    // What another caller's request came to may be a failure of that caller's alone.
    while (!isOwn && !isKnown()) isOwn = await this.#obtaining.join(scope, signal, obtain)
    const authorization = this.authorization(scope) ?? ''
    return authorization !== '' && authorization !== refused
  }

  /**
   * Some registries (GCR) deny what they should ask a password for. Returns whether there is one to be sent, and takes it for the scope.
   */
  async offerPassword(scope: string, signal: AbortSignal | undefined): Promise<boolean> {
    const authorization = basicHeader(await this.#findCredential(scope, signal))
    if (authorization === '') return false
    this.#access.set(scope, { authorization, expiresAtMs: Infinity })
    return true
  }

  /** What is found for one repository is used for it alone: all that is kept here is kept by scope. */
  async #findCredential(
    scope: string,
    signal: AbortSignal | undefined,
  ): Promise<UsableCredential | undefined> {
    const { credentials, registry } = this.#options
    const credential = await credentials.find(registry, signal, repositoryOf(scope))
    this.#used.set(scope, credential)
    if (credential?.kind === 'unavailable') return undefined
    if (credential?.kind === 'password') {
      keepSecret(credential.password)
      keepSecret(basicHeader(credential).replace('Basic ', ''))
    } else if (credential !== undefined) keepSecret(credential.token)
    return credential
  }

  /** What to tell whoever is refused for a scope: whose credentials were sent, or why none were. Undefined of nobody in particular. */
  refusalHint(scope: string): string | undefined {
    const used = this.#used.get(scope)
    if (used === undefined) return undefined
    if (used.kind === 'unavailable')
      return `No credentials were sent: ${used.reason.message}. ${used.reason.hint ?? ''}`
    const { registry } = this.#options
    const whose = used.kind === 'password' ? `user ${used.username}` : 'a token'
    const from = used.from === undefined ? 'as given' : `from ${used.from}`
    return `The credentials of ${whose} (${from}) were sent. Log in to ${registry} again, or as somebody who may do that (docker login, podman login, --authfile).`
  }

  async #obtain(
    challenge: Challenge,
    { url, scope, signal, patience }: { url: URL; scope: string; signal: AbortSignal; patience: Patience },
  ): Promise<Access> {
    const credential = await this.#findCredential(scope, signal)
    if (challenge.scheme === 'basic') return { authorization: basicHeader(credential), expiresAtMs: Infinity }
    if (credential?.kind === 'registry-token') {
      return { authorization: `Bearer ${credential.token}`, expiresAtMs: Infinity }
    }
    const realm = this.#checkRealm(challenge.parameters.get('realm'), url, credential)
    const service = challenge.parameters.get('service')
    const askedScope = challenge.parameters.get('scope') ?? scope
    const send = async () =>
      credential?.kind === 'identity-token'
        ? this.#exchange(realm, credential.token, { service, scope: askedScope, signal })
        : this.#askForToken(realm, credential, { service, scope: askedScope, signal })
    let response = await send()
    while (isRetriedStatus(response.statusCode) && (await patience.wait({ response }))) {
      await response.body.dump()
      response = await send()
    }
    return this.#readToken(response, realm, patience)
  }

  #checkRealm(realm: string | undefined, registry: URL, credential: UsableCredential | undefined): URL {
    const refuse = (why: string, hint?: string) =>
      new LoamError('REGISTRY_RESPONSE', `authenticate to ${this.#options.registry}: ${why}`, {
        hint,
      })
    if (realm === undefined || !URL.canParse(realm)) throw refuse('the registry names no token server')
    const url = new URL(realm)
    if (url.protocol !== 'https:' && url.protocol !== 'http:') {
      throw refuse(`the token server's address is of kind ${url.protocol}`)
    }
    const host = bareHost(url)
    const registryHost = bareHost(registry)
    if (
      reachOf(host) !== 'public' &&
      reachOf(registryHost) === 'public' &&
      host !== registryHost &&
      !isNameOnly(registryHost)
    ) {
      throw refuse(`the registry sends to the private address ${host}`)
    }
    const isSameHost = host === registryHost || (isLoopback(host) && isLoopback(registryHost))
    if (credential !== undefined && url.protocol !== 'https:' && !isSameHost) {
      throw refuse(
        `the registry sends the password to ${url.host} without TLS`,
        'Remove the credentials to pull anonymously, or use a registry whose token server speaks https.',
      )
    }
    return url
  }

  async #askForToken(
    realm: URL,
    credential: UsableCredential | undefined,
    { service, scope, signal }: TokenRequest,
  ): Promise<Response> {
    const url = new URL(realm)
    if (service !== undefined) url.searchParams.set('service', service)
    url.searchParams.set('scope', scope)
    const isUser = credential?.kind === 'password'
    if (isUser) url.searchParams.set('account', credential.username)
    return this.#options.transport.request(url, {
      tls: this.#options.tls,
      headers: isUser ? { authorization: basicHeader(credential) } : {},
      signal,
    })
  }

  async #exchange(realm: URL, token: string, { service, scope, signal }: TokenRequest): Promise<Response> {
    const body = new URLSearchParams({
      grant_type: 'refresh_token',
      client_id: 'loam',
      refresh_token: token,
      scope,
      ...(service === undefined ? {} : { service }),
    })
    return this.#options.transport.request(realm, {
      method: 'POST',
      tls: this.#options.tls,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: body.toString(),
      signal,
    })
  }

  async #readToken(response: Response, realm: URL, patience: Patience): Promise<Access> {
    const attempted = `get a token from ${realm.origin}${realm.pathname}`
    if (response.statusCode !== 200) {
      const note = isRetriedStatus(response.statusCode) ? patience.refusal(response) : ''
      throw await statusError(response, attempted, { registry: this.#options.registry, note })
    }
    const body = await readBody(response, MAX_TOKEN_BYTES, 'token')
    const value = check(TokenSchema, parseStrictJson(body, 'token'), 'token')
    const token = value.token ?? value.access_token ?? ''
    // Anything else could end the header line and start another one.
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new LoamError('REGISTRY_RESPONSE', `${attempted}: the answer holds no token`)
    }
    keepSecret(token)
    const lifetimeS = Math.max(value.expires_in ?? DEFAULT_LIFETIME_S, 1)
    return { authorization: `Bearer ${token}`, expiresAtMs: this.#options.now() + lifetimeS * 900 }
  }
}

interface TokenRequest {
  readonly service: string | undefined
  readonly scope: string
  readonly signal?: AbortSignal | undefined
}

type UsableCredential = Exclude<Credential, { readonly kind: 'unavailable' }>

/** Returns the repository that a scope begins with (distribution's token scopes). */
function repositoryOf(scope: string): string | undefined {
  return /^repository:([^\s:]+):/.exec(scope)?.[1]
}

function basicHeader(credential: UsableCredential | undefined): string {
  if (credential?.kind !== 'password') return ''
  return `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString('base64')}`
}

/** A registry named without a dot is one of a private network, and so may be its token server. */
function isNameOnly(host: string): boolean {
  return !host.includes('.') && !host.includes(':')
}
