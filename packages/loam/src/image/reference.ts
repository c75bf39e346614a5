/*
 * The grammar of image references, built from named pieces as distribution/reference has it:
 *
 *   reference  = [ domain "/" ] path [ ":" tag ] [ "@" digest ]
 *   domain     = ( host-name | "[" ipv6 "]" ) [ ":" port ]
 *   path       = component *( "/" component )
 */
import { LoamError } from '../errors/index.ts'
import { type Digest, isDigest } from './digest.ts'
import { type StoredReference, storedReference } from './stored-reference.ts'
import { splitTransport } from './transports.ts'

const ALPHANUMERIC = '[a-z0-9]+'
const SEPARATOR = '(?:[._]|__|-+)'
const COMPONENT = `${ALPHANUMERIC}(?:${SEPARATOR}${ALPHANUMERIC})*`
const PATH = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`)
const HOST_LABEL = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])'
const HOST_NAME = `${HOST_LABEL}(?:\\.${HOST_LABEL})*`
const IPV6 = '\\[[a-fA-F0-9:]+\\]'
const DOMAIN = new RegExp(`^(?:${HOST_NAME}|${IPV6})(?::[0-9]{1,5})?$`)
const TAG = /^\w[\w.-]{0,127}$/
const MAX_NAME_LENGTH = 255
/** Name, tag and the longest digest have some 520 characters. */
const MAX_LENGTH = 1024

const DEFAULT_REGISTRY = 'docker.io'
/** Other addresses of Docker Hub's own registry. */
const HUB_ADDRESSES: readonly string[] = ['docker.io', 'index.docker.io', 'registry-1.docker.io']
const DEFAULT_TAG = 'latest'

/** Returns whether a text can be a tag. */
export function isTag(text: string): boolean {
  return TAG.test(text)
}

/** A normalised image reference: `busybox` is `docker.io/library/busybox:latest`. */
export interface ImageReference {
  /** Host and port in lower case, `docker.io` if none was given. */
  readonly registry: string
  /** Path in the registry, with `library/` in front of Docker Hub's one-part names. */
  readonly repository: string
  /** Undefined only if a digest is given without a tag. */
  readonly tag: string | undefined
  /** Takes precedence over the tag if both are given. */
  readonly digest: Digest | undefined
  /** The reference as the user wrote it. */
  readonly typed: string
}

function checkScheme(typed: string, invalid: (why: string, hint: string) => LoamError): void {
  const scheme = /^https?:\/\//i.exec(typed)?.[0]
  if (scheme === undefined) return
  throw invalid(
    `it begins with ${scheme}`,
    `Leave out ${scheme}, and name a host without TLS by --insecure HOST.`,
  )
}

/** Parses a reference; names without a host are in `defaultRegistry`. @throws REFERENCE_INVALID */
export function parseReference(typed: string, defaultRegistry = DEFAULT_REGISTRY): ImageReference {
  const invalid = (why: string, hint?: string) =>
    new LoamError('REFERENCE_INVALID', `parse reference ${JSON.stringify(typed.slice(0, 300))}: ${why}`, {
      hint:
        hint ??
        'Write [HOST[:PORT]/]NAME[:TAG][@DIGEST], for example debian:12 or ghcr.io/owner/app@sha256:…',
    })
  checkScheme(typed, invalid)
  const { length } = typed
  if (length < 1 || length > MAX_LENGTH)
    throw invalid(`it has ${length} characters, 1 to ${MAX_LENGTH} are allowed`)

  const at = typed.indexOf('@')
  const digest = at < 0 ? undefined : typed.slice(at + 1)
  if (digest !== undefined && !isDigest(digest))
    throw invalid(
      `${JSON.stringify(digest)} is not a valid digest`,
      'A digest is sha256: and 64 hexadecimal digits; `loam images --digests` shows those of the store.',
    )
  const beforeDigest = at < 0 ? typed : typed.slice(0, at)

  const { domain, rest } = splitDomain(beforeDigest, defaultRegistry)
  const colon = rest.lastIndexOf(':')
  const path = colon < 0 ? rest : rest.slice(0, colon)
  const tag = colon < 0 ? undefined : rest.slice(colon + 1)

  if (tag !== undefined && !TAG.test(tag)) throw invalid(`${JSON.stringify(tag)} is not a valid tag`)
  if (!DOMAIN.test(domain)) throw invalid(`${JSON.stringify(domain)} is not a valid registry host`)
  if (!PATH.test(path)) {
    throw invalid(
      `${JSON.stringify(path)} is not a valid repository name`,
      /[A-Z]/.test(path) ? 'Repository names are lower-case.' : undefined,
    )
  }
  const repository = domain === DEFAULT_REGISTRY && !path.includes('/') ? `library/${path}` : path
  if (`${domain}/${repository}`.length > MAX_NAME_LENGTH) {
    throw invalid(`the name is longer than ${MAX_NAME_LENGTH} characters`)
  }
  if (isDigestAlone(typed)) {
    throw invalid('a digest alone is an id, not a name', 'Write NAME@sha256:DIGITS, with all 64 of them.')
  }
  return { registry: domain, repository, tag: tag ?? impliedTag(digest), digest, typed }
}

function impliedTag(digest: Digest | undefined): string | undefined {
  return digest === undefined ? DEFAULT_TAG : undefined
}

function splitDomain(name: string, defaultRegistry: string): { domain: string; rest: string } {
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(slash, 0))
  const isDomain = slash >= 0 && (isLikeHost(first) || first !== first.toLowerCase())
  if (!isDomain) return { domain: defaultRegistry, rest: name }
  return { domain: normalizeRegistry(first), rest: name.slice(slash + 1) }
}

/** Returns whether the first part of a name can only be a registry. */
export function isLikeHost(first: string): boolean {
  return /[.:[]/.test(first) || first.toLowerCase() === 'localhost'
}

/** Host names are case-insensitive. A name that differs from one on Docker Hub only by its capitals keeps them. */
function normalizeRegistry(domain: string): string {
  const small = domain.toLowerCase()
  if (isDockerHub(small)) return DEFAULT_REGISTRY
  return isLikeHost(small) ? small : domain
}

/** Returns whether a host, in lower case, is one of Docker Hub's addresses. */
export function isDockerHub(host: string): boolean {
  return HUB_ADDRESSES.includes(host)
}

/** Returns whether a text is a registry's host, with its port if it has one. */
export function isRegistryHost(text: string): boolean {
  return DOMAIN.test(text)
}

/** Returns whether a text is a repository's name, or the first parts of one. */
export function isRepositoryPath(text: string): boolean {
  return PATH.test(text)
}

function isDigestAlone(typed: string): boolean {
  return /^(?:[0-9a-f]{64}|sha(?:256|512):[0-9a-f]+)$/.test(typed)
}

/** Returns the normalised form, the same for all spellings of one reference. */
export function formatReference(reference: ImageReference): StoredReference {
  const { registry, repository, tag, digest } = reference
  const text = `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`
  // A registry may have the name of a transport.
  const isAmbiguous = splitTransport(text, 'file', 'foreign') !== undefined
  return storedReference(isAmbiguous ? `docker://${text}` : text)
}

/** Returns the digest, or without one the tag, for requests to the registry. */
export function manifestSelector(reference: ImageReference): string {
  return reference.digest ?? reference.tag ?? DEFAULT_TAG
}
