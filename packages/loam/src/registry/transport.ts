import type { SecureContext } from 'node:tls'
import type { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import type * as HttpLibrary from './http-library.ts'
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

/** One answer. The body is not decoded, so that digests match. */
export type Response = Dispatcher.ResponseData

export interface RequestOptions {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer | Readable
  readonly tls: TlsOptions
  readonly signal?: AbortSignal | undefined
  /** Nearest reach of an address that may be connected to; undefined for all. Behind a proxy, the proxy resolves names and this does not apply. */
  readonly nearest?: Reach
  /** Undefined: as for all. */
  readonly connectTimeoutMs?: number | undefined
}

const MAX_HEADER_BYTES = 64 << 10
/** Answers of 1xx before the final one. */
const MAX_INTERIM_ANSWERS = 100

/**
 * HTTP/1.1 for registries: one connection pool for each set of TLS options and kind of proxy. It follows no redirect, decodes no body
 * and adds no header: the caller decides. HTTP/2 is not used because the flow control of one connection makes large blobs slower.
 */
export class Transport implements AsyncDisposable {
  readonly #options: TransportOptions
  readonly #findProxy: ProxyFinder
  readonly #pools = new Map<string, Promise<Dispatcher>>()
  /** Addresses of connections, by origin. */
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
   * Returns the reach of an origin: of its address, or of the addresses of its connections. Names are not looked up, because a name
   * may resolve differently the next time; behind a proxy the address is unknown.
   */
  reachOf(url: URL): Reach {
    const own = reachOf(bareHost(url))
    const peers = [...(this.#peers.get(url.origin) ?? [])]
    return own === 'public' ? (farthest(peers.map(reachOf)) ?? own) : own
  }

  /**
   * Returns the nearest reach of hosts that a server may name: its own. Behind a proxy the reach is that of its name; a name without
   * a dot is in a private network.
   */
  nearestFor(asker: URL): Reach {
    const reach = this.reachOf(asker)
    return reach === 'public' && this.proxyName(asker) !== undefined ? reachOfName(bareHost(asker)) : reach
  }

  /** Returns whether a connection to an origin had an address. */
  isAt(url: URL, address: string): boolean {
    return this.#peers.get(url.origin)?.has(address) === true
  }

  /** Sends one request. @throws undici's and the system's errors, with the host where they occurred; ProxyRefusal, AddressRefusal */
  async request(url: URL, options: RequestOptions): Promise<Response> {
    const proxy = this.#findProxy(url)
    refuseNearer(url, options.nearest, proxy)
    const isForwarded = proxy !== undefined && url.protocol === 'http:'
    try {
      const pool = await this.#pool(url, proxy, options)
      const path = `${url.pathname}${url.search}`
      const { sendRequest } = await importHttp()
      const answering = sendRequest(pool, {
        origin: isForwarded ? proxy.url.origin : url.origin,
        // A proxy gets the absolute form of the address (RFC 9112, 3.2.2).
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
        onInfo: limitInterim(this.#options.stallTimeoutMs),
        ...(isForwarded ? { servername: bareHost(proxy.url) } : {}),
      })
      // undici ignores the signal until it is connected.
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
    // Reading the certificates takes longer than a request to a registry on loopback.
    const isTls = url.protocol === 'https:' || proxy?.url.protocol === 'https:'
    // A forwarding proxy does not get the registry's client certificate.
    const shown = way === 'forward' ? NO_TLS : tls
    // Other connections are to a proxy, which may have any address.
    const nearest = way === 'direct' ? (options.nearest ?? 'loopback') : 'loopback'
    const timeoutMs = options.connectTimeoutMs ?? this.#options.connectTimeoutMs
    const key = JSON.stringify({ ...shown, way, proxy: proxy?.url.href, isTls, nearest, timeoutMs })
    const known = this.#pools.get(key)
    if (known !== undefined) return known
    const pool = this.#makePool(way === 'tunnel' ? proxy : undefined, {
      tls: shown,
      isTls,
      nearest,
      timeoutMs,
    })
    this.#pools.set(key, pool)
    return pool
  }

  async #makePool(
    tunnel: Proxy | undefined,
    {
      tls,
      isTls,
      nearest,
      timeoutMs,
    }: { tls: TlsOptions; isTls: boolean; nearest: Reach; timeoutMs: number },
  ): Promise<Dispatcher> {
    const { Agent, buildConnector } = await importHttp()
    const options = {
      timeoutMs,
      signal: this.#closing.signal,
      tls: {
        ...(isTls ? { secureContext: secureContextOf(tls) } : {}),
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
            proxyCa: isTls ? trustedRoots() : [],
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

/** Returns what to call for each interim answer: undici's timeout for headers begins again after it. It throws as that timeout does. */
function limitInterim(timeoutMs: number): () => void {
  let count = 0
  let firstMs = 0
  return () => {
    const nowMs = performance.now()
    if (count === 0) firstMs = nowMs
    count += 1
    if (count <= MAX_INTERIM_ANSWERS && nowMs - firstMs < timeoutMs) return
    const error = new Error(`${count} interim answers and no final one`)
    throw Object.assign(error, { code: 'UND_ERR_HEADERS_TIMEOUT' })
  }
}

/** Refuses an address by its text: a literal address, or a name that the proxy will look up. @throws AddressRefusal */
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

/** Loading it takes longer than a cached provision does. */
async function importHttp(): Promise<typeof HttpLibrary> {
  return import('./http-library.ts')
}

/** Loading it takes a tenth of the time of a command that reads the store alone. */
const tls = () => process.getBuiltinModule('node:tls')

const MAX_CONTEXTS = 16
const contexts = new Map<string, SecureContext>()
/** Of Node's process; a program may set others. */
let rootsOfContexts: readonly string[] = []

/** Reading some hundred certificates takes longer than a small pull, so the result is kept. A client's key is not. */
function secureContextOf({ ca, client, skipVerify }: TlsOptions): SecureContext {
  const { createSecureContext, getCACertificates } = tls()
  // Without verification no certificates are needed.
  if (skipVerify) return createSecureContext({ ca: [], ...client })
  const roots = getCACertificates('default')
  if (roots !== rootsOfContexts) contexts.clear()
  rootsOfContexts = roots
  const key = JSON.stringify(ca)
  const known = client === undefined ? contexts.get(key) : undefined
  if (known !== undefined) return known
  const made = createSecureContext({ ca: [...trustedRoots(), ...ca], ...client })
  if (client !== undefined) return made
  const [oldest] = contexts.keys()
  if (contexts.size >= MAX_CONTEXTS && oldest !== undefined) contexts.delete(oldest)
  contexts.set(key, made)
  return made
}

/** Returns the system's certificates and Node's own: an administrator who installs a CA expects it to be used. */
function trustedRoots(): string[] {
  const { getCACertificates } = tls()
  try {
    return [...getCACertificates('default'), ...getCACertificates('system')]
  } catch {
    // Without a readable system store, Node's own roots are used, as other programs do.
    return [...getCACertificates('default')]
  }
}
