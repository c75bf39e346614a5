import { FILE_TRANSPORTS, type FileTransport, type ImageReference, isDockerHub } from '../image/index.ts'

/**
 * The location of an image for rules: the same for all spellings, and distinct for each kind, so that a name of one kind never
 * matches one of another.
 */
export type ImageLocation =
  | {
      readonly kind: 'registry'
      readonly host: string
      readonly port: string
      readonly repository: string
    }
  | {
      readonly kind: 'file'
      readonly transport: FileTransport
      /** Absolute, or an address without its query; of a commit the key of the committed container or snapshot. */
      readonly path: string
    }
  | { readonly kind: 'appc'; readonly name: string }
  /** It was not recorded. */
  | { readonly kind: 'unknown' }

const UNKNOWN_TEXT = '?'
const HTTPS_PORT = '443'
const HUB = 'docker.io'
const LIKE_TRANSPORT = new RegExp(`^(?:${FILE_TRANSPORTS.join('|')}|appc|docker):`)

export const UNKNOWN_LOCATION: ImageLocation = { kind: 'unknown' }

/** Returns the location of a repository. */
export function registryLocation({
  registry,
  repository,
}: Pick<ImageReference, 'registry' | 'repository'>): ImageLocation {
  return { kind: 'registry', ...splitHost(registry), repository }
}

/** Returns the location of a file or folder, by its path or address. */
export function fileLocation(transport: FileTransport, path: string): ImageLocation {
  return { kind: 'file', transport, path: transport === 'commit' ? path : normalizePath(path) }
}

/** Returns host and port of a registry as used for a connection: the same for all spellings of an address or a port. */
export function splitHost(registry: string): { readonly host: string; readonly port: string } {
  const url = URL.parse(`https://${registry}`)
  if (url === null) return { host: registry.toLowerCase(), port: '' }
  const port = url.port === '' ? HTTPS_PORT : url.port
  if (isDockerHub(url.hostname) && port === HTTPS_PORT) return { host: HUB, port }
  return { host: unmapped(url.hostname), port }
}

/** An IPv4 address in the notation of IPv6 is the same server. */
function unmapped(host: string): string {
  const [, high, low] = /^\[::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})\]$/.exec(host) ?? []
  if (high === undefined || low === undefined) return host
  const bits = Number.parseInt(high, 16) * 65_536 + Number.parseInt(low, 16)
  return [24, 16, 8, 0].map((shift) => Math.floor(bits / 2 ** shift) % 256).join('.')
}

function normalizePath(path: string): string {
  if (path.startsWith('/')) return resolveParts(path)
  // Hadoop's paths are those of a file system, and are not encoded.
  const [, host, below] = /^hdfs:\/\/([^/]*)(.*)$/s.exec(path) ?? []
  if (host !== undefined) return `hdfs://${host.toLowerCase()}${resolveParts(below ?? '')}`
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(path)
  const url = isUrl ? URL.parse(path.replaceAll(/%[0-9a-f]{2}/gi, decodePlain)) : null
  return url === null ? path : `${url.protocol}//${url.host}${url.pathname}`
}

/** Characters that need not be encoded mean the same if they are (RFC 3986, 6.2.2). */
function decodePlain(encoded: string): string {
  const character = String.fromCharCode(Number.parseInt(encoded.slice(1), 16))
  return /[\w.~-]/.test(character) ? character : encoded.toUpperCase()
}

/** Returns an absolute path without empty parts, `.` and `..`; links are not resolved. */
function resolveParts(path: string): string {
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return `/${parts.join('/')}`
}

/** Returns the text of a location, for the database and for messages. */
export function formatLocation(location: ImageLocation): string {
  switch (location.kind) {
    case 'registry': {
      const { host, port, repository } = location
      const text = `${host}${port === HTTPS_PORT ? '' : `:${port}`}/${repository}`
      return LIKE_TRANSPORT.test(text) ? `docker://${text}` : text
    }
    case 'file':
      return `${location.transport}:${location.path}`
    case 'appc':
      return `appc://${location.name}`
    case 'unknown':
      return UNKNOWN_TEXT
  }
}

/** Parses a text that `formatLocation` has written. Any other text is an unknown location. */
export function parseLocation(text: string): ImageLocation {
  if (text === UNKNOWN_TEXT) return UNKNOWN_LOCATION
  if (text.startsWith('appc://')) return { kind: 'appc', name: text.slice('appc://'.length) }
  const plain = text.replace(/^docker:\/\//, '')
  const transport = FILE_TRANSPORTS.find((name) => text.startsWith(`${name}:`))
  if (transport !== undefined) return { kind: 'file', transport, path: text.slice(transport.length + 1) }
  const slash = plain.indexOf('/')
  if (slash <= 0 || slash === plain.length - 1) return UNKNOWN_LOCATION
  return registryLocation({ registry: plain.slice(0, slash), repository: plain.slice(slash + 1) })
}

/** Returns the recorded locations of an image that was stored under a name; the unknown one if nothing was recorded. */
export function recordedLocations(
  origin: { readonly locations: readonly string[] } | undefined,
): ImageLocation[] {
  return origin === undefined ? [UNKNOWN_LOCATION] : origin.locations.map(parseLocation)
}

/** Returns each location once. */
export function distinctLocations(locations: readonly ImageLocation[]): ImageLocation[] {
  return [...new Map(locations.map((location) => [formatLocation(location), location])).values()]
}
