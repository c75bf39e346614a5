import { lookup } from 'node:dns'
import { isIP, isIPv6, type LookupFunction, Socket } from 'node:net'
import type { SecureContext } from 'node:tls'
import type { buildConnector } from 'undici'
import { readIntoSlabs } from '../compression/index.ts'
import { bareHost, isNearer, type Reach, reachOf } from './addresses.ts'
import { watchCertificates } from './certificate-validity.ts'
import { failedAt } from './failures.ts'
import { AddressRefusal, type Proxy, ProxyRefusal } from './proxies.ts'

export type Connector = buildConnector.connector
export type ConnectorMaker = typeof buildConnector

export interface ConnectorOptions {
  readonly tls: { readonly secureContext?: SecureContext; readonly rejectUnauthorized: boolean }
  readonly timeoutMs: number
  /** Cancels connecting. */
  readonly signal: AbortSignal
  /** Nearest reach of an address that may be connected to. */
  readonly nearest: Reach
  /** Called for each direct connection to an origin. */
  readonly onPeer: (origin: string, address: string) => void
}

/** Creates a connector for direct connections to origins. It checks the address that is connected to, which nothing can change afterwards. */
export function directConnector(make: ConnectorMaker, options: ConnectorOptions): Connector {
  const { tls, timeoutMs, signal, nearest, onPeer } = options
  const restricted = nearest === 'loopback' ? {} : { lookup: lookupUpTo(nearest) }
  const connect = endedBy(
    signal,
    make({ ...tls, ...restricted, onread: readIntoSlabs(), allowH2: false, timeout: timeoutMs }),
  )
  return (target, callback) => {
    // RFC 6066 allows no addresses as a server name.
    const { servername = '' } = target
    connect({ ...target, servername: isIP(servername) === 0 ? servername : '' }, (...[error, socket]) => {
      if (error !== null) {
        callback(error, null)
        return
      }
      const { remoteAddress } = socket
      // The address of the connection decides, whatever the lookup returned.
      if (remoteAddress !== undefined && isNearer(reachOf(remoteAddress), nearest)) {
        socket.destroy()
        callback(new AddressRefusal(remoteAddress), null)
        return
      }
      if (remoteAddress !== undefined)
        onPeer(`${target.protocol}//${target.host ?? target.hostname}`, remoteAddress)
      callback(null, socket)
    })
  }
}

/** Ends a pending connection at a signal: undici does not, and the process would wait until it times out. */
function endedBy(signal: AbortSignal, connect: Connector): Connector {
  return (target, callback) => {
    // It returns the socket, which its types do not say.
    const socket: unknown = connect(target, (...[error, connected]) => {
      signal.removeEventListener('abort', stop)
      if (error === null) callback(null, connected)
      else callback(explain(error), null)
    })
    const explain = watchCertificates(socket)
    const stop = () => {
      if (socket instanceof Socket) socket.destroy(new Error('the client is closed'))
    }
    signal.addEventListener('abort', stop)
  }
}

/** Looks names up as the system does, and omits addresses that are nearer than `nearest`. */
function lookupUpTo(nearest: Reach): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      const allowed = (addresses ?? []).filter(({ address }) => !isNearer(reachOf(address), nearest))
      const [first] = allowed
      if (error !== null) callback(error, [])
      else if (first === undefined) callback(new AddressRefusal(addresses[0]?.address ?? hostname), [])
      else if (options.all === true) callback(null, allowed)
      else callback(null, first.address, first.family)
    })
  }
}

/** Creates a connector for TLS through a proxy's tunnels (RFC 9110, 9.3.6). `proxyCa` verifies the proxy's own certificate. */
export function tunnelConnector(
  make: ConnectorMaker,
  proxy: Proxy,
  options: Pick<ConnectorOptions, 'tls' | 'timeoutMs' | 'signal'> & { readonly proxyCa: readonly string[] },
): Connector {
  const { tls, timeoutMs, signal } = options
  const connect = endedBy(signal, make({ ...tls, allowH2: false, timeout: timeoutMs }))
  const connectThrough = async (target: buildConnector.Options, callback: buildConnector.Callback) => {
    try {
      const httpSocket = await openTunnel(proxy, target, options)
      connect({ ...target, httpSocket }, callback)
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error))
      callback(failedAt(failure, { host: proxy.name, proxy }), null)
    }
  }
  return (target, callback) => {
    void connectThrough(target, callback)
  }
}

async function openTunnel(
  proxy: Proxy,
  target: buildConnector.Options,
  options: { readonly timeoutMs: number; readonly proxyCa: readonly string[]; readonly signal: AbortSignal },
): Promise<Socket> {
  const host = isIPv6(target.hostname) ? `[${target.hostname}]` : target.hostname
  const path = `${host}:${target.port === '' ? '443' : target.port}`
  const { authorization } = proxy
  const { promise, resolve, reject } = Promise.withResolvers<Socket>()
  const isTls = proxy.url.protocol === 'https:'
  const proxyHost = bareHost(proxy.url)
  const http = isTls ? process.getBuiltinModule('node:https') : process.getBuiltinModule('node:http')
  const request = http.request(proxy.url, {
    method: 'CONNECT',
    path,
    agent: false,
    headers: {
      host: path,
      'user-agent': 'loam',
      ...(authorization === undefined ? {} : { 'proxy-authorization': authorization }),
    },
    timeout: options.timeoutMs,
    signal: options.signal,
    // Without it, Node would verify the proxy against the name of the target.
    ...(isTls ? { ca: [...options.proxyCa], servername: isIP(proxyHost) === 0 ? proxyHost : '' } : {}),
  })
  request.once('connect', (response, socket: Socket, head) => {
    const status = response.statusCode ?? 0
    // The time limit of the CONNECT request would end the tunnel.
    socket.setTimeout(0)
    socket.removeAllListeners('timeout')
    if (status >= 200 && status < 300) {
      if (head.length > 0) socket.unshift(head)
      resolve(socket)
      return
    }
    socket.on('error', () => undefined)
    socket.destroy()
    reject(new ProxyRefusal(proxy, status))
  })
  request.once('response', (response) => {
    response.resume()
    reject(new ProxyRefusal(proxy, response.statusCode ?? 0))
  })
  request.once('timeout', () => {
    request.destroy(
      Object.assign(new Error(`the proxy did not answer in ${options.timeoutMs} ms`), { code: 'ETIMEDOUT' }),
    )
  })
  request.on('error', reject)
  request.end()
  return promise
}
