/*
 * The endpoints of a registry: its mirrors and itself, configured in containerd's layout.
 *
 *   <certs dir>/<host>[:port]/hosts.toml    server = "https://…", [host."https://mirror"] capabilities, ca, client …
 *   <certs dir>/<host>[:port]/*.crt         CAs, as in Docker; *.cert and *.key are a client's
 *   <certs dir>/_default/hosts.toml         for hosts without a folder
 *
 * Source: containerd docs/hosts.md; Docker "Verify repository client with certificates".
 */
import { existsSync, readdirSync } from 'node:fs'
import { basename, isAbsolute, join } from 'node:path'
import { parse as parseToml } from 'smol-toml'
import * as v from 'valibot'
import { keepSecret, LoamError, toLoamError } from '../errors/index.ts'
import { check } from '../image/index.ts'
import { readRegular } from '../linux/index.ts'
import { hostOf, isLoopback } from './addresses.ts'
import { parseGoDuration } from './go-duration.ts'

/** Far more than a configuration file has. */
const MAX_FILE_BYTES = 4 << 20

/** One address that a registry's images can be fetched from. */
export interface Endpoint {
  /** Scheme, host, port and path up to the repository's name, without a slash at the end. */
  readonly base: string
  readonly tls: TlsOptions
  /** Headers of the configuration; sent to this origin only. */
  readonly headers: Readonly<Record<string, string>>
  /** Whether it is asked in place of the registry, or of the server that the configuration names for it. */
  readonly isMirror: boolean
  /** The registry whose images another host has, sent as `ns`; undefined for the registry itself. */
  readonly namespace: string | undefined
  /** Whether plain http may be used if the server has no TLS. */
  readonly mayBePlain: boolean
  /** Whether it may say which image a tag names. A mirror without that is asked for digests only. */
  readonly mayResolve: boolean
  /** How long to wait for a connection; undefined: the setting for all. */
  readonly connectTimeoutMs: number | undefined
}

export interface TlsOptions {
  /** CAs as PEM texts, besides the system's. */
  readonly ca: readonly string[]
  readonly client: { readonly cert: string; readonly key: string } | undefined
  readonly skipVerify: boolean
}

export interface EndpointOptions {
  /** Folders in containerd's layout; the first one with the host is used. */
  readonly certsDirs: readonly string[]
  /** Hosts, with an optional port, that may be used without TLS or without a valid certificate. */
  readonly insecure: readonly string[]
  /** Hosts, with an optional port, that may be token servers of registries at private addresses. */
  readonly privateTokenServers?: readonly string[]
  /** The same for targets of redirects. */
  readonly privateRedirects?: readonly string[]
}

const NO_TLS: TlsOptions = { ca: [], client: undefined, skipVerify: false }

/** Rules for a host that a server has named, or that is not a registry. */
export interface HostRules {
  readonly tls: TlsOptions
  /** Whether plain http is allowed. */
  readonly mayBePlain: boolean
  /** Whether a user or the configuration named it, so that any server may name it as a token server, also at a private address. */
  readonly mayBePrivate: boolean
  /** The same for redirects to it. */
  readonly mayBePrivateTarget: boolean
}

const texts = v.union([v.string(), v.array(v.string())])
const HostSchema = v.object({
  capabilities: v.optional(v.array(v.string())),
  ca: v.optional(texts),
  client: v.optional(v.union([v.string(), v.array(v.union([v.string(), v.array(v.string())]))])),
  skip_verify: v.optional(v.boolean()),
  override_path: v.optional(v.boolean()),
  header: v.optional(v.record(v.string(), texts)),
  dial_timeout: v.optional(v.string()),
})
const HostsSchema = v.object({
  ...HostSchema.entries,
  server: v.optional(v.string()),
  host: v.optional(v.record(v.string(), HostSchema)),
})

type HostTable = v.InferOutput<typeof HostSchema>

/** The hosts.toml of a registry. */
interface HostsFile {
  readonly path: string
  readonly directory: string
  readonly registry: string
  readonly insecure: readonly string[]
}

/** Returns the endpoints of a registry in the order in which they are asked; one of them is no mirror. @throws CONFIG_INVALID */
export function findEndpoints(registry: string, options: EndpointOptions): Endpoint[] {
  const isInsecure = isNamed(registry, options.insecure)
  const directory = findDirectory(registry, options.certsDirs)
  if (directory !== undefined && existsSync(join(directory, 'hosts.toml'))) {
    return readHostsFile(registry, directory, options.insecure)
  }
  const tls = directory === undefined ? NO_TLS : readCertificates(directory)
  return [
    {
      base: `${defaultServer(registry)}/v2`,
      tls: { ...tls, skipVerify: isInsecure },
      headers: {},
      isMirror: false,
      namespace: undefined,
      mayBePlain: isInsecure || mayBePlainByDefault(registry, tls),
      mayResolve: true,
      connectTimeoutMs: undefined,
    },
  ]
}

function mayBePlainByDefault(host: string, { ca, client }: TlsOptions): boolean {
  // A certificate for the host means that it uses TLS.
  return isLoopback(hostOf(host)) && ca.length === 0 && client === undefined
}

/**
 * Returns the rules for a host that a server has named, from its own folder, `--insecure` and loopback. A client certificate is sent
 * only to the host whose own folder has it. @throws CONFIG_INVALID
 */
export function findHostRules(host: string, options: EndpointOptions): HostRules {
  const isInsecure = isNamed(host, options.insecure)
  const directory = findDirectory(host, options.certsDirs)
  const tls = directory === undefined ? NO_TLS : readHostTls(host, directory)
  const isOwn = directory !== undefined && namesOf(host).includes(basename(directory))
  return {
    tls: { ...tls, client: isOwn ? tls.client : undefined, skipVerify: tls.skipVerify || isInsecure },
    mayBePlain: isInsecure || mayBePlainByDefault(host, tls),
    mayBePrivate: isInsecure || isOwn || isNamed(host, options.privateTokenServers ?? []),
    mayBePrivateTarget: isInsecure || isOwn || isNamed(host, options.privateRedirects ?? []),
  }
}

/** Reads the TLS options of the host itself, and not of its mirrors, from its folder. */
function readHostTls(host: string, directory: string): TlsOptions {
  if (!existsSync(join(directory, 'hosts.toml'))) return readCertificates(directory)
  const endpoints = readHostsFile(host, directory, [])
  return endpoints.findLast(({ base }) => isHostOf(new URL(base), host))?.tls ?? NO_TLS
}

/** Returns whether a list of names contains a host, with its port or without. */
export function isNamed(host: string, names: readonly string[]): boolean {
  const own = host.toLowerCase()
  const candidates = [own, hostOf(own), own.replace(/:\d+$/, ''), `${own}:443`, `${own}:80`]
  return names.some((name) =>
    candidates.includes(
      name
        .toLowerCase()
        .replace(/^https?:\/\//, '')
        .replace(/(?<!\/)\/+$/, ''),
    ),
  )
}

function defaultServer(registry: string): string {
  return `https://${registry === 'docker.io' ? 'registry-1.docker.io' : registry}`
}

function findDirectory(registry: string, certsDirs: readonly string[]): string | undefined {
  const names = [...namesOf(registry), '_default']
  const candidates = certsDirs.flatMap((directory) => [
    ...names.map((candidate) => join(directory, candidate)),
    // podman's --cert-dir has the certificates in the folder itself.
    ...(hasCertificateFiles(directory) ? [directory] : []),
  ])
  return candidates.find((candidate) => existsSync(candidate))
}

/** Returns the names of a host's folder: containerd writes the colon of a port as underscores where a file system forbids it. */
function namesOf(host: string): string[] {
  const name = host.replaceAll(/[[\]]/g, '')
  return [name, name.replace(/:(\d+)$/, '_$1_')]
}

function hasCertificateFiles(directory: string): boolean {
  return existsSync(directory) && readdirSync(directory).some((name) => /\.(?:crt|cert)$/.test(name))
}

function readCertificates(directory: string): TlsOptions {
  const names = readdirSync(directory)
  const read = (name: string) => readConfigFile(join(directory, name))
  const certName = names.find((name) => name.endsWith('.cert'))
  const keyName = certName?.replace(/\.cert$/, '.key')
  const hasPair = certName !== undefined && keyName !== undefined && names.includes(keyName)
  return {
    ca: names.filter((name) => name.endsWith('.crt')).map(read),
    client: hasPair ? { cert: read(certName), key: read(keyName) } : undefined,
    skipVerify: false,
  }
}

function readHostsFile(registry: string, directory: string, insecure: readonly string[]): Endpoint[] {
  const path = join(directory, 'hosts.toml')
  let parsed: unknown
  try {
    parsed = parseToml(readConfigFile(path))
  } catch (error) {
    throw new LoamError('CONFIG_INVALID', `read ${path}: ${String(error)}`, { cause: error })
  }
  const config = check(HostsSchema, parsed, path)
  const from = { path, directory, registry, insecure }
  const tables = Object.entries(config.host ?? {})
  const server = serverOf(config.server, tables, from)
  const own = tables.find(
    ([address, host]) => baseOf(parseAddress(address, path), host) === baseOf(server, config),
  )
  const endpoint = ownEndpoint(own?.[0] ?? server.href, { ...config, ...definedOf(own?.[1] ?? {}) }, from)
  const mayLead =
    own !== undefined && ['pull', 'resolve'].every((each) => isAbleTo(each, own[1].capabilities))
  const asked = tables.flatMap((table) => {
    if (table === own) return mayLead ? [endpoint] : []
    const [address, host] = table
    return isAbleTo('pull', host.capabilities) ? [toEndpoint(address, host, from)] : []
  })
  return mayLead ? asked : [...asked, endpoint]
}

/** Returns the address of the registry itself: a table of its own may say that it is plain http. */
function serverOf(
  server: string | undefined,
  tables: readonly (readonly [string, unknown])[],
  { path, registry }: HostsFile,
): URL {
  if (server !== undefined && server !== '') return parseAddress(server, path)
  const addresses = tables.map(([address]) => parseAddress(address, path))
  const isOwn = (address: URL) => isHostOf(address, registry) && address.pathname === '/'
  return addresses.find(isOwn) ?? new URL(defaultServer(registry))
}

/** The fields that are there; the checker adds those that are not. */
function definedOf<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>
}

function ownEndpoint(address: string, host: HostTable, from: HostsFile): Endpoint {
  const { registry, insecure } = from
  const endpoint = { ...toEndpoint(address, host, from), isMirror: false, mayResolve: true }
  const isInsecure = isNamed(registry, insecure)
  // A table of a host says its scheme.
  const isDefault = endpoint.base === `${defaultServer(registry)}/v2`
  const mayBePlain = endpoint.mayBePlain || (isDefault && mayBePlainByDefault(registry, endpoint.tls))
  if (!isInsecure) return { ...endpoint, mayBePlain }
  return { ...endpoint, mayBePlain: true, tls: { ...endpoint.tls, skipVerify: true } }
}

/** Returns the address of the API: below the path of a host, unless that has it. */
function baseOf(url: URL, { override_path: isOverridden }: Pick<HostTable, 'override_path'>): string {
  const path = url.pathname.replace(/(?<!\/)\/+$/, '')
  return `${url.origin}${path}${isOverridden === true || path.endsWith('/v2') ? '' : '/v2'}`
}

/** Returns whether an address is that of the registry itself, as containerd decides it (docker's isProxy). */
export function isHostOf({ protocol, host }: URL, registry: string): boolean {
  const names = registry === 'docker.io' ? [registry, 'registry-1.docker.io'] : [registry]
  return names.some((name) => {
    const url = `${protocol}//${name}`
    return URL.canParse(url) && new URL(url).host === host
  })
}

/** Without a list, or with an empty one, a host has all capabilities. */
function isAbleTo(capability: string, listed: readonly string[] = []): boolean {
  return listed.length === 0 || listed.some((name) => name.toLowerCase() === capability)
}

function toEndpoint(address: string, host: HostTable, from: HostsFile): Endpoint {
  const url = parseAddress(address, from.path)
  const isInsecure = isNamed(url.host, from.insecure)
  const resolve = (file: string) => (isAbsolute(file) ? file : join(from.directory, file))
  // Most of these are keys.
  for (const value of Object.values(host.header ?? {}).flatMap(toList)) keepSecret(value)
  return {
    base: baseOf(url, host),
    tls: {
      ca: toList(host.ca).map((file) => readConfigFile(resolve(file))),
      client: readClientPair(host.client, resolve),
      skipVerify: host.skip_verify === true || isInsecure,
    },
    headers: Object.fromEntries(
      Object.entries(host.header ?? {}).map(([name, value]) => [
        name.toLowerCase(),
        toList(value).join(', '),
      ]),
    ),
    isMirror: true,
    namespace: isHostOf(url, from.registry) ? undefined : from.registry,
    mayBePlain: isInsecure,
    mayResolve: isAbleTo('resolve', host.capabilities),
    connectTimeoutMs: parseDialTimeout(host.dial_timeout, from.path),
  }
}

function parseDialTimeout(text: string | undefined, path: string): number | undefined {
  if (text === undefined || text === '') return undefined
  const timeMs = parseGoDuration(text)
  // Timers count whole milliseconds.
  if (timeMs !== undefined && timeMs > 0) return Math.max(1, Math.round(timeMs))
  throw new LoamError(
    'CONFIG_INVALID',
    `read ${path}: dial_timeout ${text} is not a duration such as 200ms or 1m30s`,
  )
}

function parseAddress(address: string, path: string): URL {
  const text = address.includes('://') ? address : `https://${address}`
  if (!URL.canParse(text)) throw new LoamError('CONFIG_INVALID', `read ${path}: ${address} is no address`)
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new LoamError('CONFIG_INVALID', `read ${path}: ${address} is neither http nor https`)
  }
  return url
}

function toList(value: string | readonly string[] | undefined): readonly string[] {
  if (value === undefined) return []
  return typeof value === 'string' ? [value] : value
}

function readClientPair(
  client: HostTable['client'],
  resolve: (file: string) => string,
): TlsOptions['client'] {
  if (client === undefined) return undefined
  const first = typeof client === 'string' ? client : client[0]
  if (first === undefined) return undefined
  const [cert = '', key = cert] = typeof first === 'string' ? [first] : first
  return { cert: readConfigFile(resolve(cert)), key: readConfigFile(resolve(key)) }
}

function readConfigFile(path: string): string {
  try {
    return readRegular(path, MAX_FILE_BYTES, 'CONFIG_INVALID').toString('utf8')
  } catch (error) {
    throw toLoamError(error, `read ${path}`)
  }
}
