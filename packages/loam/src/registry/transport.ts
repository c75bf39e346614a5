import { getCACertificates } from 'node:tls'
import type { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { TlsOptions } from './endpoints.ts'

/** Proxies as the environment names them; empty for none. */
export interface ProxyOptions {
  readonly httpProxy: string
  readonly httpsProxy: string
  readonly noProxy: string
}

export interface TransportOptions {
  readonly proxy: ProxyOptions
  /** Longest time without a byte, in ms. */
  readonly stallTimeoutMs: number
  readonly connectTimeoutMs: number
}

/** One answer. The body is raw: nothing decodes it, so that digests hold. */
export type Response = Dispatcher.ResponseData

export interface RequestOptions {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer | Readable
  readonly tls: TlsOptions
  readonly signal?: AbortSignal | undefined
}

const MAX_HEADER_BYTES = 64 << 10

/**
 * HTTP/1.1 for registries: one connection pool for each set of TLS options. Follows no redirect, decodes no body,
 * adds no header: what is sent where is decided by who calls. HTTP/2 is left out because one connection's flow
 * control makes large blobs slower.
 */
export class Transport implements AsyncDisposable {
  readonly #options: TransportOptions
  readonly #pools = new Map<string, Dispatcher>()

  constructor(options: TransportOptions) {
    this.#options = options
  }

  /** Sends one request. @throws undici's and the system's errors */
  async request(url: URL, options: RequestOptions): Promise<Response> {
    // Loading undici takes longer than a cached provision does.
    const { request } = await import('undici')
    return request(url, {
      method: options.method ?? 'GET',
      headers: { 'user-agent': 'loam', 'accept-encoding': 'identity', ...options.headers },
      ...(options.body === undefined ? {} : { body: options.body }),
      dispatcher: await this.#pool(options.tls, this.#needsTls(url)),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      headersTimeout: this.#options.stallTimeoutMs,
      bodyTimeout: this.#options.stallTimeoutMs,
    })
  }

  /** Putting the certificates together takes longer than asking a registry on loopback. */
  #needsTls(url: URL): boolean {
    return url.protocol === 'https:' || this.#options.proxy.httpProxy.startsWith('https:')
  }

  async #pool(tls: TlsOptions, needsTls: boolean): Promise<Dispatcher> {
    const key = JSON.stringify({ ...tls, needsTls })
    const known = this.#pools.get(key)
    if (known !== undefined) return known
    const { EnvHttpProxyAgent } = await import('undici')
    const options = {
      ...(needsTls ? { ca: [...trustedRoots(), ...tls.ca] } : {}),
      rejectUnauthorized: !tls.skipVerify,
      ...(tls.client === undefined ? {} : tls.client),
    }
    const pool = new EnvHttpProxyAgent({
      ...this.#options.proxy,
      allowH2: false,
      maxHeaderSize: MAX_HEADER_BYTES,
      connect: { ...options, timeout: this.#options.connectTimeoutMs },
      requestTls: options,
    })
    this.#pools.set(key, pool)
    return pool
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#pools.values()].map(async (pool) => pool.destroy()))
  }
}

/** The machine's certificates besides Node's own: an administrator who installs a CA expects it to count. */
function trustedRoots(): string[] {
  try {
    return [...getCACertificates('default'), ...getCACertificates('system')]
  } catch {
    // An unreadable system store leaves Node's own roots, which is what every other program would use.
    return [...getCACertificates('default')]
  }
}
