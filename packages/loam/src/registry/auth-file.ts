/*
 * Credentials in files of Docker (config.json) and podman (auth.json).
 *
 *   { "auths": { KEY: { "auth": base64("user:password") | "username", "password" | "identitytoken" | "registrytoken" } },
 *     "credHelpers": { KEY: "name" }, "credsStore": "name" }
 *
 * A KEY is a host, `host:port`, or a host and the first parts of a repository's name: `quay.io/org` is for that organisation only.
 * The most specific one is used. Docker also writes addresses, `https://index.docker.io/v1/`. `*` in a host matches any text
 * without a dot, as in the kubelet.
 *
 * Sources: containers-auth.json(5) and containers/image's pkg/docker/config (paths, whole parts); docker/cli's config/credentials and
 * ConvertToHostname (addresses, names of Docker Hub); Kubernetes' pkg/credentialprovider (addresses with paths, `*`).
 */
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { check, isDockerHub, parseStrictJson } from '../image/index.ts'
import { askHelper, type HelperOptions } from './credential-helper.ts'
import type { Credential } from './credential.ts'

const text = v.nullish(v.string())
// Null counts as absent, as in Go's decoder.
const AuthSchema = v.nullish(
  v.object({ auth: text, username: text, password: text, identitytoken: text, registrytoken: text }),
)
const ConfigSchema = v.object({
  auths: v.nullish(v.record(v.string(), AuthSchema)),
  credHelpers: v.nullish(v.record(v.string(), text)),
  credsStore: text,
})
/** .dockercfg, which preceded config.json, contained the value of `auths`. */
const OldConfigSchema = v.record(v.string(), AuthSchema)

export type AuthFile = v.InferOutput<typeof ConfigSchema>

/** The registry, or the repository, that credentials are searched for. */
export interface Wanted {
  /** Host and port. */
  readonly registry: string
  /** Undefined for the registry as a whole. */
  readonly repository: string | undefined
}

/** The key of Docker Hub in docker's own file. */
export const DOCKER_HUB_SERVER = 'https://index.docker.io/v1/'

/** Parses a file. An empty one has no credentials. @throws CREDENTIALS_INVALID */
export function parseAuthFile(bytes: Uint8Array, what: string): AuthFile {
  if (Buffer.from(bytes).toString('latin1').trim() === '') return {}
  try {
    const value = parseStrictJson(bytes, what)
    const isNew =
      typeof value === 'object' &&
      value !== null &&
      /auths|credsStore|credHelpers/.test(Object.keys(value).join())
    if (isNew) return check(ConfigSchema, value, what)
    const old = v.safeParse(OldConfigSchema, value)
    return old.success ? { auths: old.output } : check(ConfigSchema, value, what)
  } catch (error) {
    throw new LoamError(
      'CREDENTIALS_INVALID',
      `read ${what}: it is not a credentials file${positionIn(bytes, error)}`,
      {
        cause: error,
        hint: 'Create one with `loam login --authfile FILE`, `docker login` or `podman login`.',
      },
    )
  }
}

/** Returns the position in a parser's message, if it has one. The rest of the message quotes the text, and with it passwords. */
function positionIn(bytes: Uint8Array, error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : ''
  const position = /at position (\d+)/.exec(cause)?.[1]
  if (position === undefined) return ''
  const before = Buffer.from(bytes).toString('utf8').slice(0, Number(position)).split('\n')
  return ` (line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1})`
}

/** Finds the most specific credential for a repository. `options` has the file's path and the environment of helpers. @throws CREDENTIALS_INVALID */
export async function findInAuthFile(
  file: AuthFile,
  wanted: Wanted,
  options: HelperOptions,
): Promise<Credential | undefined> {
  let unavailable: Credential | undefined
  for (const entry of findEntries(file, options.where, wanted)) {
    const found = await openEntry(entry, wanted, options)
    if (found?.kind === 'unavailable') unavailable ??= found
    else if (found !== undefined) return found
  }
  return unavailable
}

/** A place that may have a credential. */
interface CredentialEntry {
  /** Number of parts of the repository's name that its key matches. */
  readonly depth: number
  /** Order among entries of one depth: helpers first, as in docker, then keys that equal the host. */
  readonly rank: number
  readonly source:
    | { readonly kind: 'entry'; readonly entry: NonNullable<v.InferOutput<typeof AuthSchema>> }
    | { readonly kind: 'helper'; readonly name: string }
  /** For messages. */
  readonly what: string
}

function findEntries(file: AuthFile, what: string, wanted: Wanted): CredentialEntry[] {
  const matching = <T>(entries: Readonly<Record<string, T>> | null | undefined) =>
    Object.entries(entries ?? {}).flatMap(([key, value]) => {
      const match = matchKey(key, wanted)
      return match === undefined ? [] : [{ ...match, value }]
    })
  const helpers = matching(file.credHelpers)
  // An empty name there means no helper for this host.
  const store = helpers.some(({ depth }) => depth === 0) ? undefined : file.credsStore
  const helper = (
    name: string | null | undefined,
    entry: Pick<CredentialEntry, 'depth' | 'rank'>,
    setting: string,
  ): CredentialEntry[] =>
    name ? [{ ...entry, what: `${setting} in ${what}`, source: { kind: 'helper', name } }] : []
  const entries = [
    ...helpers.flatMap(({ depth, rank, value }) => helper(value, { depth, rank }, 'credHelpers')),
    ...helper(store, { depth: 0, rank: 10 }, 'credsStore'),
    ...matching(file.auths).flatMap(({ depth, rank, value }): CredentialEntry[] =>
      value === null || value === undefined
        ? []
        : [{ depth, rank: 20 + rank, what, source: { kind: 'entry', entry: value } }],
    ),
  ]
  return entries.toSorted((a, b) => b.depth - a.depth || a.rank - b.rank)
}

/** Returns how well a key matches; undefined if it does not. A part of a repository's name matches as a whole only. */
function matchKey(
  key: string,
  { registry, repository }: Wanted,
): { depth: number; rank: number } | undefined {
  const { host, path } = parseKey(key)
  const own = canonicalHost(registry)
  const isGlob = /[*?]/.test(host)
  if (isGlob ? !fitsGlob(host, own) : host !== own) return undefined
  const parts = repository?.split('/') ?? []
  if (path.length > parts.length || path.some((part, index) => part !== parts[index])) return undefined
  const isVerbatim = key === registry || key.startsWith(`${registry}/`)
  return { depth: path.length, rank: isVerbatim ? 0 : isGlob ? 2 : 1 }
}

/** Returns the canonical host of a key, and the parts of a repository's name in it. */
export function parseKey(key: string): { host: string; path: string[] } {
  const rest = key.replace(/^https?:\/\//i, '')
  const [host = '', ...path] = rest.split('/')
  const parts = path.filter((part) => part !== '')
  // The address of an API, written by docker login, and not of an organisation.
  const isApi = rest !== key || rest.endsWith('/')
  if (isApi && /^v[12]$/.test(parts[0] ?? '')) parts.shift()
  return { host: canonicalHost(host), path: parts }
}

/** Returns a host in lower case, without the port of https; Docker Hub under one name. */
export function canonicalHost(host: string): string {
  const name = host.toLowerCase().replace(/:443$/, '')
  return isDockerHub(name) ? 'docker.io' : name
}

function fitsGlob(glob: string, host: string): boolean {
  const parts = glob.split('.')
  const given = host.split('.')
  if (parts.length !== given.length) return false
  return parts.every((part, index) => fitsPart(part, given[index] ?? ''))
}

/** `?` matches one character and `*` any number of them, but not the colon of a port. Backtracks only to the last star. */
export function fitsPart(glob: string, part: string): boolean {
  let [at, inGlob] = [0, 0]
  let star: { readonly at: number; readonly inGlob: number } | undefined
  while (at < part.length) {
    const wanted = glob[inGlob]
    if (wanted === '*') {
      inGlob += 1
      star = { at, inGlob }
    } else if (wanted === part[at] || (wanted === '?' && part[at] !== ':')) {
      at += 1
      inGlob += 1
    } else if (star !== undefined && part[star.at] !== ':') {
      star = { ...star, at: star.at + 1 }
      ;({ at, inGlob } = star)
    } else return false
  }
  return /^\**$/.test(glob.slice(inGlob))
}

async function openEntry(
  { source, what, depth }: CredentialEntry,
  { registry, repository }: Wanted,
  options: HelperOptions,
): Promise<Credential | undefined> {
  if (source.kind === 'entry') return toCredential(source.entry, registry, what)
  const server = canonicalHost(registry) === 'docker.io' ? DOCKER_HUB_SERVER : registry
  const path = repository?.split('/').slice(0, depth).join('/')
  // A helper that stores credentials by path finds the first; most helpers store them by host.
  const servers = depth === 0 ? [server] : [`${registry}/${path}`, server]
  let unavailable: Credential | undefined
  for (const asked of servers) {
    const found = await askHelper(source.name, asked, { ...options, where: what })
    if (found?.kind === 'unavailable') unavailable ??= found
    else if (found !== undefined) return found
  }
  return unavailable
}

function toCredential(
  entry: NonNullable<v.InferOutput<typeof AuthSchema>>,
  registry: string,
  from: string,
): Credential | undefined {
  if (entry.registrytoken) return { kind: 'registry-token', token: entry.registrytoken, from }
  if (entry.identitytoken) return { kind: 'identity-token', token: entry.identitytoken, from }
  if (!entry.auth) {
    if (!entry.username) return undefined
    return { kind: 'password', username: entry.username, password: entry.password ?? '', from }
  }
  const decoded = Buffer.from(entry.auth, 'base64')
    .toString('utf8')
    .replace(/(?<!\0)\0+$/, '')
  const colon = decoded.indexOf(':')
  if (colon < 0) {
    throw new LoamError(
      'CREDENTIALS_INVALID',
      `read ${from}: "auth" for ${registry} is not base64 of user:password`,
    )
  }
  const username = decoded.slice(0, colon)
  const password = decoded.slice(colon + 1)
  if (username === '' && password === '') return undefined
  return { kind: 'password', username, password, from }
}
