/*
 * Tokens of a token server: GET with Basic, or OAuth 2 by POST for identity tokens, and for passwords where GET is not allowed.
 * Sources: distribution's docs/spec/auth/token.md and oauth.md; which of both when: docker's registry/client/auth/session.go.
 *
 * The registry names the server, and may be hostile. So it may not name an address that is nearer to this machine than itself (cloud
 * metadata, services of loopback), neither directly nor by a redirect. The address of a name is checked when it is connected to.
 */
import { LoamError } from '../errors/index.ts'
import { bareHost, isLoopback } from './addresses.ts'
import { basicHeader, type UsableCredential } from './credential.ts'
import type { TlsOptions } from './endpoints.ts'
import { AddressRefusal } from './proxies.ts'
import { type FindHostRules, isRedirect, MAX_REDIRECTS, resolveAddress, tlsOfTarget } from './redirects.ts'
import { header } from './responses.ts'
import type { RequestOptions, Response, Transport } from './transport.ts'

export interface TokenServerOptions {
  /** The registry in the user's words. */
  readonly registry: string
  readonly transport: Transport
  readonly tls: TlsOptions
  /** Finds the rules for hosts that the registry names. */
  readonly rulesOf: FindHostRules
}

export interface TokenRequest {
  /** The address that requires a token. */
  readonly asker: URL
  readonly realm: string | undefined
  readonly service: string | undefined
  readonly scopes: readonly string[]
  readonly credential: UsableCredential | undefined
  readonly signal: AbortSignal
}

/** The answer of the server, of any status, and its host. */
export interface TokenAnswer {
  readonly response: Response
  readonly realm: URL
}

/** Requests a token. @throws REGISTRY_RESPONSE, and the errors of the transport */
export async function requestToken(options: TokenServerOptions, request: TokenRequest): Promise<TokenAnswer> {
  const { credential } = request
  const realm = findRealm(options, request)
  if (credential?.kind === 'identity-token') {
    const grant = { grant_type: 'refresh_token', refresh_token: credential.token }
    return { realm, response: await send(options, request, { realm, grant }) }
  }
  const response = await send(options, request, { realm })
  if (response.statusCode !== 405 || credential?.kind !== 'password') return { realm, response }
  await response.body.dump()
  const grant = { grant_type: 'password', username: credential.username, password: credential.password }
  return { realm, response: await send(options, request, { realm, grant }) }
}

function refusal(registry: string, why: string, hint?: string): LoamError {
  return new LoamError('REGISTRY_RESPONSE', `authenticate to ${registry}: ${why}`, { hint })
}

function findRealm({ registry, transport, rulesOf }: TokenServerOptions, request: TokenRequest): URL {
  const { asker, credential } = request
  // The specification has no realm without scheme and host; it can only mean the registry's own.
  const realm = request.realm?.replace(/^\/(?!\/)/, `${asker.origin}/`)
  if (realm === undefined || !URL.canParse(realm))
    throw refusal(registry, 'the registry does not name a token server')
  const url = new URL(realm)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw refusal(registry, `the token server has a URL of scheme ${url.protocol.slice(0, -1)}`)
  }
  url.username = ''
  url.password = ''
  if (credential === undefined || url.protocol === 'https:') return url
  const host = bareHost(url)
  const isSame =
    host === bareHost(asker) ||
    (isLoopback(host) && isLoopback(bareHost(asker))) ||
    (asker.protocol === 'http:' && transport.isAt(asker, host))
  if (isSame || rulesOf(url.host).mayBePlain) return url
  throw refusal(
    registry,
    `the token server ${url.host} would receive the password without TLS`,
    `Remove the credentials to pull anonymously, use a registry with an https token server, or use --insecure ${url.host}.`,
  )
}

interface TokenQuestion {
  readonly realm: URL
  /** Undefined: GET. */
  readonly grant?: Readonly<Record<string, string>>
}

async function send(
  options: TokenServerOptions,
  request: TokenRequest,
  { realm, grant }: TokenQuestion,
): Promise<Response> {
  const { registry, rulesOf } = options
  const attempted = `get a token from ${realm.host}`
  const method = grant === undefined ? 'GET' : 'POST'
  let url = grant === undefined ? withQuery(realm, request) : realm
  for (let hops = 0; hops <= MAX_REDIRECTS; hops += 1) {
    const isTrusted = url.origin === realm.origin || isUpgrade(realm, url)
    if (!isTrusted && grant !== undefined) {
      throw refusal(registry, `the token server ${realm.host} redirects credentials to ${url.host}`)
    }
    const response = await connect(options, request, url, {
      method,
      ...(grant === undefined
        ? { headers: isTrusted ? basicHeaders(request.credential) : {} }
        : formOf(grant, request)),
    })
    if (!isRedirect(response.statusCode, method)) return response
    await response.body.dump()
    url = resolveAddress(header(response, 'location'), url, { attempted, rulesOf })
  }
  throw refusal(registry, `the token server ${realm.host} redirects more than ${MAX_REDIRECTS} times`)
}

async function connect(
  { registry, transport, tls, rulesOf }: TokenServerOptions,
  { asker, signal }: TokenRequest,
  url: URL,
  content: Pick<RequestOptions, 'method' | 'headers' | 'body'>,
): Promise<Response> {
  const tooNear = (address: string) =>
    refusal(
      registry,
      `its token server ${url.host} is at the private address ${address}`,
      `If this is the token server of ${registry}, allow it with --private_token_servers=${url.host}.`,
    )
  const nearest = rulesOf(url.host).mayBePrivate ? 'loopback' : transport.nearestFor(asker)
  try {
    return await transport.request(url, {
      ...content,
      tls: url.origin === asker.origin ? tls : tlsOfTarget(url, tls, rulesOf),
      signal,
      nearest,
    })
  } catch (error) {
    throw error instanceof AddressRefusal ? tooNear(error.address) : error
  }
}

/** Returns whether a redirect leads to the same host with TLS. */
function isUpgrade(from: URL, to: URL): boolean {
  return from.protocol === 'http:' && to.protocol === 'https:' && from.host === to.host
}

function withQuery(realm: URL, { service, scopes, credential }: TokenRequest): URL {
  const url = new URL(realm)
  if (service !== undefined) url.searchParams.set('service', service)
  url.searchParams.delete('scope')
  for (const scope of scopes) url.searchParams.append('scope', scope)
  if (credential?.kind === 'password') url.searchParams.set('account', credential.username)
  return url
}

function formOf(
  grant: Readonly<Record<string, string>>,
  { service, scopes }: TokenRequest,
): Pick<RequestOptions, 'headers' | 'body'> {
  const form = new URLSearchParams({
    ...grant,
    client_id: 'loam',
    scope: scopes.join(' '),
    ...(service === undefined ? {} : { service }),
  })
  return { headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: form.toString() }
}

function basicHeaders(credential: UsableCredential | undefined): Record<string, string> {
  return credential?.kind === 'password' ? { authorization: basicHeader(credential) } : {}
}
