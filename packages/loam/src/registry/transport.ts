import { getCACertificates } from 'node:tls'
import type { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import { untilAborted } from '../content/index.ts'
import { bareHost, farthest, isNearer, type Reach, reachOf, reachOfName } from './addresses.ts'
import { directConnector, tunnelConnector } from './connector.ts'
import type { TlsOptions } from './endpoints.ts'
import { failedAt } from './failures.ts'
import {
  AddressRefusal,
  createProxyFinder,
  type Proxy,
  type ProxyFinder,
  type ProxyOptions,
  ProxyRefusal,
} from './proxies.ts'

export interface TransportOptions {
  readonly proxy: ProxyOptions
  /** Longest time without a byte, in ms. */
  readonly stallTimeoutMs: number
  readonly connectTimeoutMs: number
}

/** One answer. The body is raw: nothing decodes it, so that digests hold. */
export type Response = Dispatcher.ResponseData

export interface RequestOptions {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer | Readable
  readonly tls: TlsOptions
  readonly signal?: AbortSignal | undefined
  /** The nearest address that may be connected to; undefined for all. What a name leads to behind a proxy is not known, and the proxy's affair. */
  readonly nearest?: Reach
}

const MAX_HEADER_BYTES = 64 << 10

/**
 * HTTP/1.1 for registries: one connection pool for each set of TLS options and way. Follows no redirect, decodes no body,
 * adds no header: what is sent where is decided by who calls. HTTP/2 is left out because one connection's flow
 * control makes large blobs slower.
 */
export class Transport implements AsyncDisposable {
  readonly #options: TransportOptions
  readonly #findProxy: ProxyFinder
  readonly #pools = new Map<string, Promise<Dispatcher>>()
  /** Addresses that an origin was connected at. */
  readonly #peers = new Map<string, Set<string>>()
  readonly #closing = new AbortController()

  constructor(options: TransportOptions) {
    this.#options = options
    this.#findProxy = createProxyFinder(options.proxy)
  }

  /** Returns the name of the proxy that requests to an address go through. @throws CONFIG_INVALID */
  proxyName(url: URL): string | undefined {
    return this.#findProxy(url)?.name
  }

  /**
   * Returns who can reach an origin: by its address, or by those that it has been connected at. What a name leads to is not looked up,
   * for it may lead elsewhere the next time; behind a proxy it is not known.
   */
  reachOf(url: URL): Reach {
    const own = reachOf(bareHost(url))
    const peers = [...(this.#peers.get(url.origin) ?? [])]
    return own === 'public' ? (farthest(peers.map(reachOf)) ?? own) : own
  }

  /**
   * Returns how near to this machine those may be that a server names: as near as itself. Behind a proxy it is not known where a server is;
   * one that is named without a dot is of a private network.
   */
  nearestFor(asker: URL): Reach {
    const reach = this.reachOf(asker)
    return reach === 'public' && this.proxyName(asker) !== undefined ? reachOfName(bareHost(asker)) : reach
  }

  /** Returns whether an origin was connected at an address. */
  isAt(url: URL, address: string): boolean {
    return this.#peers.get(url.origin)?.has(address) === true
  }

  /** Sends one request. @throws undici's and the system's errors, with the host that they were met at; ProxyRefusal, AddressRefusal */
  async request(url: URL, options: RequestOptions): Promise<Response> {
    const proxy = this.#findProxy(url)
    refuseNearer(url, options.nearest, proxy)
    const isForwarded = proxy !== undefined && url.protocol === 'http:'
    try {
      const pool = await this.#pool(url, proxy, options)
      const path = `${url.pathname}${url.search}`
      const answering = pool.request({
        origin: isForwarded ? proxy.url.origin : url.origin,
        // A proxy gets the whole address (RFC 9112, 3.2.2).
        path: isForwarded ? `${url.origin}${path}` : path,
        method: options.method ?? 'GET',
        headers: {
          'user-agent': 'loam',
          'accept-encoding': 'identity',
          ...options.headers,
          ...(isForwarded ? forwardingHeaders(url, proxy) : {}),
        },
        body: options.body ?? null,
        signal: options.signal ?? null,
        headersTimeout: this.#options.stallTimeoutMs,
        bodyTimeout: this.#options.stallTimeoutMs,
        ...(isForwarded ? { servername: bareHost(proxy.url) } : {}),
      })
      // undici looks at the signal when it is connected, and not before.
      const response = await untilAborted(answering, options.signal)
      if (!isForwarded || response.statusCode !== 407) return response
      await response.body.dump()
      throw new ProxyRefusal(proxy, response.statusCode)
    } catch (error) {
      throw failedAt(error, isForwarded ? { host: proxy.name, proxy } : { host: url.host })
    }
  }

  async #pool(url: URL, proxy: Proxy | undefined, { tls, ...options }: RequestOptions): Promise<Dispatcher> {
    const way = proxy === undefined ? 'direct' : url.protocol === 'https:' ? 'tunnel' : 'forward'
    // Putting the certificates together takes longer than asking a registry on loopback.
    const isTls = url.protocol === 'https:' || proxy?.url.protocol === 'https:'
    // A forwarding proxy sees none of what the registry is shown.
    const shown = way === 'forward' ? NO_TLS : tls
    // What is connected to otherwise is a proxy, which may be anywhere.
    const nearest = way === 'direct' ? (options.nearest ?? 'loopback') : 'loopback'
    const key = JSON.stringify({ ...shown, way, proxy: proxy?.url.href, isTls, nearest })
    const known = this.#pools.get(key)
    if (known !== undefined) return known
    const pool = this.#makePool(way === 'tunnel' ? proxy : undefined, { tls: shown, isTls, nearest })
    this.#pools.set(key, pool)
    return pool
  }

  async #makePool(
    tunnel: Proxy | undefined,
    { tls, isTls, nearest }: { tls: TlsOptions; isTls: boolean; nearest: Reach },
  ): Promise<Dispatcher> {
    // Loading undici takes longer than a cached provision does.
    const { Agent, buildConnector } = await import('undici')
    const roots = isTls ? trustedRoots() : []
    const { connectTimeoutMs: timeoutMs } = this.#options
    const options = {
      timeoutMs,
      signal: this.#closing.signal,
      tls: {
        ...(isTls ? { ca: [...roots, ...tls.ca] } : {}),
        ...tls.client,
        rejectUnauthorized: !tls.skipVerify,
      },
    }
    const connect =
      tunnel === undefined
        ? directConnector(buildConnector, {
            ...options,
            nearest,
            onPeer: (...peer) => this.#notePeer(...peer),
          })
        : tunnelConnector(buildConnector, tunnel, {
            ...options,
            proxyCa: roots,
          })
    return new Agent({ allowH2: false, maxHeaderSize: MAX_HEADER_BYTES, connect })
  }

  #notePeer(origin: string, address: string): void {
    const addresses = this.#peers.get(origin) ?? new Set()
    this.#peers.set(origin, addresses.add(address))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort()
    await Promise.all([...this.#pools.values()].map(async (pool) => (await pool).destroy()))
  }
}

/** Of what its own text says: an address, or a name where nothing here looks it up. @throws AddressRefusal */
function refuseNearer(url: URL, nearest: Reach | undefined, proxy: Proxy | undefined): void {
  if (nearest === undefined) return
  const host = bareHost(url)
  const reach = reachOf(host)
  const said = reach === 'public' && proxy !== undefined ? reachOfName(host) : reach
  if (isNearer(said, nearest)) throw new AddressRefusal(host)
}

const NO_TLS: TlsOptions = { ca: [], client: undefined, skipVerify: false }

function forwardingHeaders(url: URL, { authorization }: Proxy): Record<string, string> {
  return {
    host: url.host,
    ...(authorization === undefined ? {} : { 'proxy-authorization': authorization }),
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
