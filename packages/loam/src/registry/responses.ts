import * as v from 'valibot'
import { isErrno, isLoamError, LoamError, redact, toLoamError } from '../errors/index.ts'
import { parseStrictJson } from '../image/index.ts'
import { placeOf } from './failures.ts'
import { type Proxy, ProxyRefusal } from './proxies.ts'
import type { Response } from './transport.ts'

const MAX_ERROR_BYTES = 64 << 10

/** Returns one header as text. */
export function header(response: Response, name: string): string | undefined {
  const value = response.headers[name]
  return Array.isArray(value) ? value[0] : value
}

/** Returns all values of a header. */
export function headerList(response: Response, name: string): string[] {
  const value = response.headers[name]
  return value === undefined ? [] : Array.isArray(value) ? value : [value]
}

/** Returns the size of the whole content according to an answer with it or with a part of it; undefined if it is not announced. */
export function totalOf(response: Response): number | undefined {
  if (response.statusCode === 200) {
    const stated = header(response, 'content-length')
    return stated === undefined ? undefined : Number(stated)
  }
  const match = /^bytes[ =][^/]*\/(\d+)$/i.exec(header(response, 'content-range') ?? '')
  return match === null ? undefined : Number(match[1])
}

const SECONDS = /^\d{1,9}(?:\.\d{1,9})?$/
/** A date begins with the day of the week; `Date.parse` takes also `-5` and `5, 5` for dates. */
const HTTP_DATE = /^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? /i

/**
 * Reads a Retry-After in ms: seconds, also with a fraction as some services write it, or a date (RFC 9110, 10.2.3), which is compared
 * with the server's own clock.
 */
export function retryAfterMs(response: Response): number | undefined {
  const value = header(response, 'retry-after')?.trim() ?? ''
  if (SECONDS.test(value)) return Math.ceil(Number(value) * 1000)
  const date = parseHttpDate(value)
  if (date === undefined) return undefined
  return Math.max(0, date - (parseHttpDate(header(response, 'date') ?? '') ?? Date.now()))
}

/** Parses the three forms of RFC 9110, 5.6.7. The form of asctime names no time zone and means UTC. */
function parseHttpDate(text: string): number | undefined {
  if (!HTTP_DATE.test(text)) return undefined
  const date = Date.parse(/ \d{4}$/.test(text) ? `${text} GMT` : text)
  return Number.isNaN(date) ? undefined : date
}

/** Reads a whole body of at most `maxBytes`. @throws DOCUMENT_TOO_LARGE; then the connection is closed */
export async function readBody(response: Response, maxBytes: number, what: string): Promise<Buffer> {
  const stated = Number(header(response, 'content-length') ?? 0)
  const chunks: Buffer[] = []
  let bytes = stated > maxBytes ? stated : 0
  try {
    if (bytes === 0) {
      for await (const chunk of response.body) {
        bytes += (chunk as Buffer).length
        if (bytes > maxBytes) break
        chunks.push(chunk as Buffer)
      }
    }
  } finally {
    if (bytes > maxBytes) {
      // Ending a body without a reader emits an error, which would end the process.
      response.body.on('error', () => undefined)
      response.body.destroy()
    }
  }
  if (bytes > maxBytes) {
    throw new LoamError('DOCUMENT_TOO_LARGE', `read ${what}: it has more than ${maxBytes} bytes`)
  }
  return Buffer.concat(chunks)
}

/** The host that answered. */
export interface Answerer {
  readonly registry: string
  /** The host and its role, if it is not the registry itself. */
  readonly host?: string | undefined
  readonly role?: 'storage' | 'token server' | undefined
  /** The name of a proxy that may have answered instead. */
  readonly proxy?: string | undefined
  /** Further text for the message. */
  readonly note?: string | undefined
  /** Hint about the account, if access is denied. */
  readonly accountHint?: string | undefined
}

/** Builds the error for a status that is not a success; reads a bounded part of the body for the server's own words. */
export async function statusError(response: Response, attempted: string, by: Answerer): Promise<LoamError> {
  const words = await readDiagnostics(response)
  const { registry, host, role, proxy, note = '', accountHint } = by
  const who =
    role === undefined
      ? 'the registry'
      : role === 'storage'
        ? `${host}, to which ${registry} redirects,`
        : `the token server ${host}`
  const way = proxy === undefined ? '' : ` through the proxy ${proxy}`
  const message = `${attempted}: ${who} answered ${response.statusCode}${way}${words === '' ? '' : ` (${words})`}${note === '' ? '' : `; ${note}`}`
  const asked = retryAfterMs(response)
  const details = {
    status: response.statusCode,
    registry: host ?? registry,
    ...codeIn(words),
    ...(asked === undefined ? {} : { retryAfterMs: asked }),
  }
  // Storage has no accounts, and a token server no images.
  const isOfAccount = [401, 403].includes(response.statusCode)
  if ((role === 'storage' && isOfAccount) || (role === 'token server' && response.statusCode === 404))
    return new LoamError('REGISTRY_RESPONSE', message, { details })
  switch (response.statusCode) {
    case 401:
      return new LoamError('REGISTRY_UNAUTHORIZED', message, {
        details,
        hint:
          accountHint ??
          `Log in to ${registry} (loam login, docker login, podman login), or give a credentials file with --authfile. Docker Hub also answers this way for images that do not exist.`,
      })
    case 403:
      return new LoamError('REGISTRY_DENIED', message, {
        details,
        hint:
          accountHint ??
          `Log in to ${registry} (loam login, docker login, podman login), or name a file with credentials by --authfile.`,
      })
    case 404:
      return new LoamError('IMAGE_NOT_FOUND', message, {
        details,
        hint: 'Check the name and the tag.',
      })
    case 413:
      return new LoamError('REGISTRY_RESPONSE', message, {
        details,
        hint: `Something on the way to ${registry} limits the size of uploads: client_max_body_size of nginx, or a plan.`,
      })
    case 429:
      return new LoamError('REGISTRY_RATE_LIMITED', message, {
        details,
        hint: 'Wait, log in for a higher limit, or configure a mirror in certs.d/<host>/hosts.toml.',
      })
    default:
      return new LoamError('REGISTRY_RESPONSE', message, { details })
  }
}

/** The code of the registry's first error (OCI distribution-spec, error codes). */
function codeIn(words: string): { readonly registryCode?: string } {
  const [registryCode] = /^[A-Z_]+(?=:|,|$)/.exec(words) ?? []
  return registryCode === undefined ? {} : { registryCode }
}

async function readDiagnostics(response: Response): Promise<string> {
  try {
    const body = await readBody(response, MAX_ERROR_BYTES, 'error')
    if (!(header(response, 'content-type') ?? '').includes('json')) return ''
    const { errors = [] } = v.parse(AnswerSchema, parseStrictJson(body, 'error'))
    const words = errors.flatMap((each) => {
      const texts = [each.code, each.message].filter((word) => typeof word === 'string')
      return texts.length === 0 ? [] : [texts.join(': ')]
    })
    // A part of a secret is redacted before the text is cut.
    return redact(words.join('; ')).slice(0, 300)
  } catch {
    // The message works without the server's text.
    return ''
  }
}

/** The errors of a registry, of which each field may be of any type. */
const AnswerSchema = v.object({
  errors: v.optional(
    v.fallback(
      v.array(v.fallback(v.object({ code: v.optional(v.unknown()), message: v.optional(v.unknown()) }), {})),
      [],
    ),
  ),
})

const TLS_CODES =
  /^(?:CERT_|ERR_TLS|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_SSL|ERR_OSSL|HOSTNAME_MISMATCH|EPROTO)/

/**
 * Creates the error for a request without a response; its host is `registry` unless the failure occurred at another one. `signal` is
 * the signal of the request.
 */
export function transportError(
  error: unknown,
  { attempted, signal }: { readonly attempted: string; readonly signal?: AbortSignal | undefined },
  registry: string,
): LoamError {
  // A canceled request failed because of that, whatever the error is.
  if (signal?.aborted === true) return toLoamError(undefined, attempted, signal)
  if (isLoamError(error)) return error
  if (error instanceof ProxyRefusal) return proxyError(error, attempted)
  const code = errorCode(error)
  const { host, proxy } = placeOf(error) ?? { host: registry }
  const where = proxy === undefined ? (host === registry ? '' : `${host}: `) : `proxy ${host}: `
  const message = `${attempted}: ${where}${describe(error, code)}`
  const details = { registry, host }
  if (TLS_CODES.test(code)) {
    return new LoamError('REGISTRY_TLS', message, {
      cause: error,
      details,
      hint: tlsHint(error, host, proxy),
    })
  }
  if (isNotHttp(error)) {
    return new LoamError('REGISTRY_RESPONSE', message, {
      cause: error,
      details,
      hint: `Check the address and the port, and whether ${host} speaks HTTP/1.1.`,
    })
  }
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
    return new LoamError('REGISTRY_STALLED', `${attempted}: ${where}timed out waiting for data`, {
      cause: error,
      hint: 'fetcher_stall_timeout sets how long to wait.',
    })
  }
  if (code !== '' && !isErrno(error, 'EACCES', 'EPERM')) {
    const hint = proxy === undefined ? unreachableHint(code, host) : `${proxy.variable} sets this proxy.`
    return new LoamError('REGISTRY_UNREACHABLE', message, { cause: error, details, hint })
  }
  return toLoamError(error, attempted)
}

/** Returns a plain text for an error of the system. */
function describe(error: unknown, code: string): string {
  if (code === 'ENOTFOUND') return 'host not found'
  if (code === 'EAI_AGAIN') return 'the name server did not respond'
  if (isNotTls(error)) return 'the answer is not TLS'
  if (isNotHttp(error)) return 'the answer is not HTTP'
  // Node's own hints are about options of Node.
  const reason =
    error instanceof Error
      ? error.message.replace(/; if the root CA is installed locally.*/s, '')
      : String(error)
  return reason === '' ? code : reason
}

const IS_PLAIN = /^ERR_SSL_(?:WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNSUPPORTED_PROTOCOL)$/

/** Returns whether a server answered in plain text where TLS was expected. */
export function isNotTls(error: unknown): boolean {
  return IS_PLAIN.test(errorCode(error))
}

/** Returns whether an answer, or a part of its body, is not HTTP/1.1. */
export function isNotHttp(error: unknown): boolean {
  return errorCode(error).startsWith('HPE_')
}

function tlsHint(error: unknown, host: string, proxy: Proxy | undefined): string {
  const code = errorCode(error)
  if (proxy !== undefined)
    return `Install the CA of the proxy that ${proxy.variable} names in this machine's certificates.`
  if (isNotTls(error)) return `If ${host} uses plain http, use --insecure ${host}.`
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    return `Renew the certificate of ${host}, or check this machine's clock (date). --insecure ${host} skips verification.`
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `Use a host name that the certificate covers. --insecure ${host} skips verification.`
  }
  return `Put the CA of ${host} into certs.d/${host}/ca.crt (--certs-dir), or set ca in its hosts.toml if it has one; --insecure ${host} skips verification.`
}

function unreachableHint(code: string, host: string): string | undefined {
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `Check the host name ${host}, and the proxy settings of the environment.`
    case 'ECONNREFUSED':
      return `Connection refused by ${host}: check the port, and whether the server is running.`
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'UND_ERR_CONNECT_TIMEOUT':
      return `Check the network and the firewall on the way to ${host}. HTTPS_PROXY sets a proxy.`
    default:
      return undefined
  }
}

function proxyError(refusal: ProxyRefusal, attempted: string): LoamError {
  const { proxy, status } = refusal
  const hint =
    status === 407
      ? `Put user and password into ${proxy.variable}: http://USER:PASSWORD@${proxy.name}`
      : `${proxy.variable} sets this proxy. NO_PROXY lists hosts to access without it.`
  return new LoamError('REGISTRY_UNREACHABLE', `${attempted}: ${refusal.message}`, {
    cause: refusal,
    details: { proxy: proxy.name, status },
    hint,
  })
}

/** Returns the code of an error, or of the first one in an AggregateError. */
export function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return ''
  if ('code' in error && typeof error.code === 'string') return error.code
  // undici's parser leaves out the code for most faults.
  if (error.name === 'HTTPParserError') return 'HPE_INVALID'
  if (error instanceof AggregateError) return errorCode(error.errors[0])
  return errorCode(error.cause)
}
