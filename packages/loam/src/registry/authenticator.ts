import * as v from 'valibot'
import { isLoamError, keepSecret, keepServerSecret, LoamError } from '../errors/index.ts'
import { SingleFlight } from '../content/index.ts'
import { check, parseStrictJson } from '../image/index.ts'
import type { Challenge } from './challenge.ts'
import { basicHeader, type Credential, type UsableCredential } from './credential.ts'
import type { CredentialSource } from './credentials.ts'
import { readBody, statusError } from './responses.ts'
import { isRetriedStatus, type Patience } from './retry.ts'
import { repositoryOf, scopesToAsk } from './scopes.ts'
import { requestToken, type TokenAnswer, type TokenServerOptions } from './token-server.ts'
import { tokenTimeFault } from './token-times.ts'

const MAX_TOKEN_BYTES = 1 << 20
/** Lifetime of a token without expires_in, according to distribution's specification. */
const DEFAULT_LIFETIME_S = 60

const TokenSchema = v.object({
  token: v.nullish(v.string()),
  access_token: v.nullish(v.string()),
  expires_in: v.nullish(v.union([v.number(), v.string()])),
})

interface Access {
  readonly authorization: string
  readonly expiresAtMs: number
}

export interface AuthenticatorOptions extends TokenServerOptions {
  readonly credentials: CredentialSource
  /** A monotonic clock in ms: the time of day may jump, and a server's may be wrong. */
  readonly now: () => number
}

/**
 * Authenticates requests to one origin. Credentials belong to a scheme, host and port. They are never sent to a redirect's
 * target. A password is sent to a token server only over TLS or on the registry's own host.
 */
export class Authenticator {
  readonly #options: AuthenticatorOptions
  readonly #access = new Map<string, Access>()
  readonly #obtaining = new SingleFlight()
  /** Hosts of the token servers, by scope. */
  readonly #servers = new Map<string, string>()
  readonly #used = new Map<string, Credential | undefined>()

  constructor(options: AuthenticatorOptions) {
    this.#options = options
  }

  /** Returns the Authorization header for a scope, if a valid one is known. */
  authorization(scope: string): string | undefined {
    const access = this.#access.get(scope)
    return access !== undefined && access.expiresAtMs > this.#options.now() ? access.authorization : undefined
  }

  /**
   * Answers a challenge of the registry at `url`, once for all callers that wait for the same scope. `refused` is the header
   * that caused the challenge. Returns false if there is nothing (more) to answer with.
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
    // Another caller's request may have failed for a reason of that caller only.
    while (!isOwn && !isKnown()) isOwn = await this.#obtaining.join(scope, signal, obtain)
    const authorization = this.authorization(scope) ?? ''
    return authorization !== '' && authorization !== refused
  }

  /**
   * Uses a password for a scope without a challenge: some registries (GCR) deny access without asking for one. Returns whether there is one.
   */
  async offerPassword(scope: string, signal: AbortSignal | undefined): Promise<boolean> {
    const authorization = basicHeader(await this.#findCredential(scope, signal))
    if (authorization === '') return false
    this.#access.set(scope, { authorization, expiresAtMs: Infinity })
    return true
  }

  /** Finds the credential of a scope. All state is kept by scope, so that a credential of one repository is used for it only. */
  async #findCredential(
    scope: string,
    signal: AbortSignal | undefined,
  ): Promise<UsableCredential | undefined> {
    const { credentials, registry } = this.#options
    const credential = await credentials.find(registry, { signal, repository: repositoryOf(scope) })
    this.#used.set(scope, credential)
    if (credential?.kind === 'unavailable') return undefined
    if (credential?.kind === 'password') {
      keepSecret(credential.password)
      keepSecret(basicHeader(credential).replace('Basic ', ''))
    } else if (credential !== undefined) keepSecret(credential.token)
    return credential
  }

  /** Text for the error of a refused scope: whose credentials were sent, or why none were. Undefined if nothing is known. */
  refusalHint(scope: string): string | undefined {
    const server = this.#servers.get(scope)
    const token = this.#access.get(scope)?.authorization.replace(/^Bearer /, '') ?? ''
    const fault = server === undefined ? undefined : tokenTimeFault(token, Date.now())
    return fault === undefined
      ? this.#accountHint(scope)
      : `The token that ${server} gave ${fault}: its clock or the one of this machine is wrong.`
  }

  #accountHint(scope: string): string | undefined {
    const used = this.#used.get(scope)
    const { registry } = this.#options
    if (used?.kind === 'unavailable')
      return `No credentials were sent: ${used.reason.message}. ${used.reason.hint ?? ''}`
    if (used !== undefined) {
      const whose = used.kind === 'password' ? `user ${used.username}` : 'a token'
      const from = used.from === undefined ? 'as given' : `from ${used.from}`
      return `The credentials of ${whose} (${from}) were sent. Log in to ${registry} again, or with an account that has access (loam login, docker login, podman login, --authfile).`
    }
    const server = this.#servers.get(scope)
    return server === undefined
      ? undefined
      : `${server} issued an anonymous token, and it was refused. Log in to ${registry} (loam login, docker login, podman login), or give a credentials file with --authfile. Docker Hub also answers this way for images that do not exist.`
  }

  /** Returns whether there are credentials for a scope; unreadable files count as none. @throws CANCELED */
  async hasCredential(scope: string, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      return (await this.#findCredential(scope, signal)) !== undefined
    } catch (error) {
      if (isLoamError(error, 'CREDENTIALS_INVALID')) return false
      throw error
    }
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
    const question = {
      asker: url,
      realm: challenge.parameters.get('realm'),
      service: challenge.parameters.get('service'),
      scopes: scopesToAsk(scope, challenge.parameters.get('scope')),
      credential,
      signal,
    }
    let answer = await requestToken(this.#options, question)
    while (isRetriedStatus(answer.response.statusCode) && (await patience.wait(answer))) {
      await answer.response.body.dump()
      answer = await requestToken(this.#options, question)
    }
    this.#servers.set(scope, answer.realm.host)
    return this.#readToken(answer, scope, patience)
  }

  async #readToken({ response, realm }: TokenAnswer, scope: string, patience: Patience): Promise<Access> {
    const attempted = `get a token from ${realm.origin}${realm.pathname}`
    const status = response.statusCode
    if (status < 200 || status > 299) {
      throw await statusError(response, attempted, {
        registry: this.#options.registry,
        host: realm.host,
        role: 'token server',
        note: isRetriedStatus(status) ? patience.refusal(response) : '',
        accountHint: this.refusalHint(scope),
      })
    }
    const body = await readBody(response, MAX_TOKEN_BYTES, 'token')
    const value = check(TokenSchema, parseStrictJson(body, 'token'), 'token')
    // Some servers write both and leave one of them empty.
    const token = value.token || value.access_token || ''
    // Other characters could end the header line and start another one.
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new LoamError('REGISTRY_RESPONSE', `${attempted}: the response contains no token`)
    }
    keepServerSecret(token)
    const stated = Number(value.expires_in ?? 0)
    const lifetimeS = stated > 0 ? Math.max(stated, 1) : DEFAULT_LIFETIME_S
    return { authorization: `Bearer ${token}`, expiresAtMs: this.#options.now() + lifetimeS * 900 }
  }
}
