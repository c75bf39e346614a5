import { type Digest, isDigest } from './digest.ts'
import { splitTransport } from './transports.ts'

/**
 * Returns the identity that a name in the store states: the digest of a reference or of an entry of a layout, or the id of an Appc
 * image. Undefined for a name that may refer to another image later.
 */
export function pinOf(name: string): string | undefined {
  // At any position: older stores have names with a label of this name.
  if (name.startsWith('appc://')) return /,id=([^,]*)/.exec(name)?.[1]
  const file = splitTransport(name, 'file')
  if (file !== undefined && file.selector !== 'tag or digest') return undefined
  return /@((?:sha256|sha512):[0-9a-f]+)$/.exec(name)?.[1]
}

/** Returns a name that is true of an image: without the digest that it states if that is another one's. Undefined if no tag is left. */
export function nameOfDigest(name: string, digest: Digest): string | undefined {
  const pin = pinOf(name)
  return !isDigest(pin) || pin === digest ? name : withoutDigest(name)
}

/** Returns a reference without its digest. Undefined if it has no tag. */
export function withoutDigest(reference: string): string | undefined {
  const [rest = ''] = reference.split('@')
  return /:[^:/]+$/.test(rest) ? rest : undefined
}

/** A name of an image in a file of several. */
export interface NameClaim {
  /** The image. */
  readonly owner: string
  readonly name: string
}

/**
 * Shortens the names of the images of one file, so that each belongs to one image. A name as it was given goes before a shortened one; a shortened
 * one that several images would have is left out. Returns one for each claim, undefined for none.
 */
export function shortenNames<T extends NameClaim>(
  claims: readonly T[],
  shorten: (claim: T) => string | undefined,
): (string | undefined)[] {
  const shortened = claims.map((claim) => ({ ...claim, text: shorten(claim) }))
  const given = new Map(
    shortened.flatMap(({ owner, name, text }) => (text === name ? [[text, owner] as const] : [])),
  )
  const owners = Map.groupBy(shortened, ({ text }) => text)
  return shortened.map(({ owner, text }) => {
    if (text === undefined) return undefined
    const isOwn = given.has(text)
      ? given.get(text) === owner
      : owners.get(text)?.every((other) => other.owner === owner)
    return isOwn === true ? text : undefined
  })
}
