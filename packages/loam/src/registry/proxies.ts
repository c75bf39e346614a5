/*
 * The proxy of a request: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read as Go's golang.org/x/net/http/httpproxy does, which docker,
 * podman, containerd and crane use. As in curl, NO_PROXY may have spaces between its parts and IPv6 addresses in brackets.
 */
import { BlockList, isIP } from 'node:net'
import { keepSecret, LoamError } from '../errors/index.ts'
import { bareHost, isLoopback } from './addresses.ts'

/** Proxies of the environment; empty for none. */
export interface ProxyOptions {
  readonly httpProxy: string
  readonly httpsProxy: string
  readonly noProxy: string
}

export interface Proxy {
  /** Scheme, host and port only. */
  readonly url: URL
  /** Host and port, for messages. */
  readonly name: string
  /** The variable that names it, for messages. */
  readonly variable: string
  /** Value of Proxy-Authorization. */
  readonly authorization: string | undefined
}

/** Returns the proxy for an address; undefined for none. @throws CONFIG_INVALID if the proxy cannot be used */
export type ProxyFinder = (url: URL) => Proxy | undefined

export function createProxyFinder(options: ProxyOptions): ProxyFinder {
  const isExempt = parseNoProxy(options.noProxy)
  const known = new Map<string, Proxy | undefined>()
  return (url) => {
    const [variable, value] =
      url.protocol === 'https:'
        ? (['HTTPS_PROXY', options.httpsProxy] as const)
        : (['HTTP_PROXY', options.httpProxy] as const)
    if (value.trim() === '' || isLoopback(bareHost(url)) || isExempt(url)) return undefined
    if (!known.has(variable)) known.set(variable, parseProxy(value.trim(), variable))
    return known.get(variable)
  }
}

/** Parses a proxy; the default scheme is http. Source: httpproxy's parseProxy. */
function parseProxy(value: string, variable: string): Proxy {
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value}`
  const refuse = (why: string) =>
    new LoamError('CONFIG_INVALID', `read ${variable}: ${why}`, {
      hint: `Set ${variable} to http://HOST:PORT or https://HOST:PORT, or unset it. NO_PROXY lists hosts to access without a proxy.`,
    })
  if (!URL.canParse(text)) throw refuse('it is not the address of a proxy')
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw refuse(`proxies of kind ${url.protocol.slice(0, -1)} are not supported`)
  }
  return {
    url: new URL(url.origin),
    name: url.host,
    variable,
    authorization: authorizationOf(url),
  }
}

function authorizationOf(url: URL): string | undefined {
  if (url.username === '' && url.password === '') return undefined
  const password = decode(url.password)
  const encoded = Buffer.from(`${decode(url.username)}:${password}`).toString('base64')
  for (const secret of [password, url.password, encoded]) keepSecret(secret)
  return `Basic ${encoded}`
}

/** Decodes percent escapes; a % that begins none stays. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

type Exemption = (host: string, port: string) => boolean

/** Parses NO_PROXY. A name matches itself and its subdomains, `.name` its subdomains only. Source: httpproxy's config.init. */
function parseNoProxy(text: string): (url: URL) => boolean {
  const exemptions = text
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((part) => part !== '')
    .map(parseExemption)
  return (url) => {
    const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port
    return exemptions.some((matches) => matches(bareHost(url), port))
  }
}

function parseExemption(part: string): Exemption {
  if (part === '*') return () => true
  const block = parseBlock(part)
  if (block !== undefined) return (host) => isIP(host) !== 0 && block.check(host, familyOf(host))
  const { host, port } = splitPort(part)
  const isPort = (given: string) => port === undefined || port === given
  if (isIP(host) !== 0) {
    const own = new BlockList()
    own.addAddress(host, familyOf(host))
    return (given, givenPort) => isIP(given) !== 0 && isPort(givenPort) && own.check(given, familyOf(given))
  }
  const name = asciiName(host.replace(/^\*(?=\.)/, ''))
  if (name === '') return () => false
  return (given, givenPort) =>
    isPort(givenPort) &&
    (name.startsWith('.') ? given.endsWith(name) : given === name || given.endsWith(`.${name}`))
}

function parseBlock(part: string): BlockList | undefined {
  const [host = '', length = '', rest] = part.replaceAll(/[[\]]/g, '').split('/')
  const bits = isIP(host) === 6 ? 128 : 32
  if (rest !== undefined || isIP(host) === 0 || !/^\d{1,3}$/.test(length) || Number(length) > bits)
    return undefined
  const block = new BlockList()
  block.addSubnet(host, Number(length), familyOf(host))
  return block
}

function splitPort(part: string): { host: string; port: string | undefined } {
  const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(part)
  if (bracketed !== null) return { host: bracketed[1] ?? '', port: bracketed[2] }
  // Text with more than one colon is an IPv6 address.
  const [, host = part, port] = /^([^:]*):(\d*)$/.exec(part) ?? []
  return { host, port: port === '' ? undefined : port }
}

function asciiName(name: string): string {
  const dot = name.startsWith('.') ? '.' : ''
  const text = `http://${name.slice(dot.length)}`
  return URL.canParse(text) ? `${dot}${new URL(text).hostname}` : ''
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4'
}

/** A proxy refused a request. */
export class ProxyRefusal extends Error {
  readonly code = 'PROXY_REFUSED'
  readonly proxy: Proxy
  readonly status: number

  constructor(proxy: Proxy, status: number) {
    super(`the proxy ${proxy.name} answered ${status}`)
    this.proxy = proxy
    this.status = status
  }
}

/** A name resolved to an address that may not be connected to. */
export class AddressRefusal extends Error {
  readonly code = 'ADDRESS_REFUSED'
  readonly address: string

  constructor(address: string) {
    super(`the address ${address} is not allowed`)
    this.address = address
  }
}
