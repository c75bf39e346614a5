/*
 * Addresses that servers name: the target of a redirect (RFC 9110, 15.4), or of an upload. They may have any host, such as
 * storage of another domain. Such a host gets the request, and no secrets of the first host.
 */
import { keepServerSecret, LoamError } from '../errors/index.ts'
import type { HostRules, TlsOptions } from './endpoints.ts'
import type { RequestOptions } from './transport.ts'

export type FindHostRules = (host: string) => HostRules
export type Method = NonNullable<RequestOptions['method']>

/** Redirects to follow. Go's clients follow ten. */
export const MAX_REDIRECTS = 5

/**
 * Returns whether an answer is a redirect. The method stays: 301 and 302 change a POST for historical reasons only, and 303, which
 * changes every method, makes no sense for an upload.
 */
export function isRedirect(status: number, method: Method): boolean {
  if (status === 303) return method === 'GET' || method === 'HEAD'
  return [301, 302, 307, 308].includes(status)
}

/**
 * Returns the address that a server at `from` names, relative or absolute. A redirect from TLS to plain http is refused, unless the
 * host may be used without TLS. User and password in the address are removed. @throws REGISTRY_RESPONSE
 */
export function resolveAddress(
  location: string | undefined,
  from: URL,
  { attempted, rulesOf }: { readonly attempted: string; readonly rulesOf: FindHostRules },
): URL {
  const refuse = (why: string, hint?: string) =>
    new LoamError('REGISTRY_RESPONSE', `${attempted}: ${why}`, { hint })
  if (location === undefined || !URL.canParse(location, from.href)) {
    throw refuse(`${from.host} redirects without a location`)
  }
  const next = new URL(location, from)
  // The query of the address grants access to the file.
  for (const value of next.searchParams.values()) keepServerSecret(value)
  next.username = ''
  next.password = ''
  next.hash = ''
  if (next.protocol !== 'https:' && next.protocol !== 'http:') {
    throw refuse(`${from.host} redirects to a URL of scheme ${next.protocol.slice(0, -1)}`)
  }
  if (next.protocol === 'https:' || from.protocol === 'http:') return next
  // A registry behind a proxy that terminates TLS may name itself with http.
  if (next.host === from.host) return new URL(next.href.replace(/^http:/, 'https:'))
  if (!rulesOf(next.host).mayBePlain) {
    throw refuse(
      `${from.host} redirects from https to http at ${next.host}`,
      `To access ${next.host} without TLS, use --insecure ${next.host}.`,
    )
  }
  return next
}

/** Returns the TLS options of a host that a server with `tls` named: its own rules, and the CAs of that server. */
export function tlsOfTarget(target: URL, tls: TlsOptions, rulesOf: FindHostRules): TlsOptions {
  const own = rulesOf(target.host).tls
  return { ...own, ca: [...new Set([...own.ca, ...tls.ca])] }
}
