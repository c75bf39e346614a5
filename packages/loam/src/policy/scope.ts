import {
  type FileTransport,
  isLikeHost,
  isRegistryHost,
  isRepositoryPath,
  locationTransport,
} from '../image/index.ts'
import { fileLocation, type ImageLocation, splitHost } from './location.ts'

/** The locations that a rule is for. */
export type Scope =
  | {
      readonly kind: 'registry'
      readonly host: string
      /** Matches all hosts below that one, and not the host itself. */
      readonly isWildcard: boolean
      /** Undefined: any. */
      readonly port: string | undefined
      /** Repositories, or prefixes of them; empty: all. */
      readonly repositories: readonly string[]
      /** Only names below them. */
      readonly isBelow: boolean
    }
  | {
      readonly kind: 'file'
      readonly transport: FileTransport
      /** Undefined: all of the transport. */
      readonly path: string | undefined
    }
  | {
      readonly kind: 'appc'
      /** Undefined: all. */
      readonly name: string | undefined
    }

const APPC_NAME = /^[a-z0-9]+(?:[-._~/]+[a-z0-9]+)*$/

/**
 * Parses a scope by the rules for names; a name without a host is one of `defaultRegistry`. Returns the reason if no name can ever be in
 * it.
 */
export function parseScope(text: string, defaultRegistry: string): Scope | { readonly invalid: string } {
  if (/[\s\p{C}]/u.test(text)) return { invalid: 'it has spaces or control characters' }
  if (text.startsWith('docker://')) return parseRegistryScope(text.slice('docker://'.length), defaultRegistry)
  const [, transport = '', rest = ''] = /^([a-z-]+):(.*)$/s.exec(text) ?? []
  if (transport === 'appc') return parseAppcScope(rest)
  const own = locationTransport(transport)
  if (own !== undefined) return parseFileScope(own, rest)
  if (locationTransport(text) !== undefined || text === 'appc')
    return { invalid: `a transport is written with a colon: "${text}:"` }
  return parseRegistryScope(text, defaultRegistry)
}

function parseAppcScope(rest: string): ReturnType<typeof parseScope> {
  if (rest === '' || rest === '//') return { kind: 'appc', name: undefined }
  const name = rest.startsWith('//') ? rest.slice(2).replace(/\/$/, '') : ''
  if (!APPC_NAME.test(name))
    return { invalid: 'an Appc scope is appc:// and a name without version and labels' }
  return { kind: 'appc', name }
}

function parseFileScope(transport: FileTransport, rest: string): ReturnType<typeof parseScope> {
  if (rest === '') return { kind: 'file', transport, path: undefined }
  const isAddress = /^(?:https?|hdfs):\/\//.test(rest)
  if (transport !== 'commit' && !rest.startsWith('/') && !isAddress)
    return { invalid: 'its path is not absolute' }
  if (!isAddress && transport !== 'commit' && /[:@]/.test(rest.slice(rest.lastIndexOf('/'))))
    return { invalid: 'a path with a tag, reference or digest: a scope is a file or folder' }
  const location = fileLocation(transport, rest)
  return {
    kind: 'file',
    transport,
    path: location.kind === 'file' ? location.path.replace(/(?<=.)\/$/, '') : rest,
  }
}

function parseRegistryScope(text: string, defaultRegistry: string): ReturnType<typeof parseScope> {
  const slash = text.indexOf('/')
  const first = slash < 0 ? text : text.slice(0, slash)
  if (text.startsWith('*.')) {
    if (slash >= 0) return { invalid: 'a pattern of hosts has no path' }
    return withHost(text.slice(2), true, [], false)
  }
  if (/^[a-z]+:\/\//i.test(text)) return { invalid: 'it is a URL; a scope is HOST[:PORT][/PATH]' }
  if (slash < 0 && /^[a-z0-9-]+:[0-9]+$/i.test(text) && !/^localhost:/i.test(text))
    return { invalid: `it may be a tag; a registry is written with a slash: "${text}/"` }
  const hasHost = isLikeHost(first) || (slash >= 0 && first !== first.toLowerCase())
  const path = hasHost ? (slash < 0 ? '' : text.slice(slash + 1)) : text
  const host = hasHost ? first : defaultRegistry
  const isBelow = path.endsWith('/')
  const repository = isBelow ? path.slice(0, -1) : path
  if (/[:@]/.test(repository)) return { invalid: 'a tag or a digest is not a part of a scope' }
  if (path !== '' && !isRepositoryPath(repository))
    return { invalid: `${JSON.stringify(repository)} is not a repository name` }
  return withHost(host, false, repository === '' ? [] : [repository], isBelow)
}

function withHost(
  registry: string,
  isWildcard: boolean,
  repositories: readonly string[],
  isBelow: boolean,
): ReturnType<typeof parseScope> {
  if (!isRegistryHost(registry) || !URL.canParse(`https://${registry}`))
    return { invalid: `${JSON.stringify(registry)} is not a registry host` }
  const { host, port } = splitHost(registry)
  const hasPort = /:[0-9]+$/.test(registry)
  return {
    kind: 'registry',
    host,
    isWildcard,
    port: hasPort ? port : undefined,
    repositories: host === 'docker.io' && !isWildcard ? withLibrary(repositories, isBelow) : repositories,
    isBelow,
  }
}

/** A name of one part on Docker Hub is an image of its library, and also the prefix of other images. */
function withLibrary(repositories: readonly string[], isBelow: boolean): readonly string[] {
  return repositories.flatMap((name) =>
    name.includes('/') || name === 'library' || isBelow ? [name] : [name, `library/${name}`],
  )
}

/** Returns whether a location is in a scope. A location that is not known is in none. */
export function fits(scope: Scope, location: ImageLocation): boolean {
  switch (scope.kind) {
    case 'registry':
      return location.kind === 'registry' && fitsRegistry(scope, location)
    case 'file':
      return (
        location.kind === 'file' &&
        location.transport === scope.transport &&
        isWithin(location.path, scope.path)
      )
    case 'appc':
      return location.kind === 'appc' && isWithin(location.name, scope.name)
  }
}

type RegistryScope = Extract<Scope, { kind: 'registry' }>
type RegistryLocation = Extract<ImageLocation, { kind: 'registry' }>

function fitsRegistry(scope: RegistryScope, location: RegistryLocation): boolean {
  const isHost = scope.isWildcard ? location.host.endsWith(`.${scope.host}`) : location.host === scope.host
  if (!isHost || (scope.port !== undefined && scope.port !== location.port)) return false
  return scope.repositories.length === 0 || matchedRepositories(scope, location).length > 0
}

/** Returns the repositories of a scope that a location is in. */
function matchedRepositories(scope: RegistryScope, location: RegistryLocation): readonly string[] {
  return scope.repositories.filter((repository) =>
    scope.isBelow
      ? location.repository.startsWith(`${repository}/`)
      : isWithin(location.repository, repository),
  )
}

function isWithin(path: string, scope: string | undefined): boolean {
  if (scope === undefined || path === scope) return true
  return path.startsWith(scope.endsWith('/') ? scope : `${scope}/`)
}

/** Compares two scopes that contain a location: below 0 if the first one is more specific, and decides. */
export function compareScopes(a: Scope, b: Scope, location: ImageLocation): number {
  const others = weigh(b, location)
  const differences = weigh(a, location).map((own, index) => (others[index] ?? 0) - own)
  return differences.find((difference) => difference !== 0) ?? 0
}

/** Returns how specific a scope is for a location that it contains, the most significant number first. */
function weigh(scope: Scope, location: ImageLocation): readonly number[] {
  if (scope.kind === 'file') return [scope.path?.length ?? 0]
  if (scope.kind === 'appc') return [scope.name?.length ?? 0]
  if (location.kind !== 'registry') return []
  // Other repositories of the scope, as of `docker.io/app`, do not make it more specific here.
  const path = Math.max(0, ...matchedRepositories(scope, location).map(({ length }) => length))
  return [
    Number(!scope.isWildcard),
    Number(scope.port !== undefined),
    scope.host.length,
    path,
    Number(scope.isBelow),
  ]
}
