/*
 * The rules for what a name may refer to. All names are recorded by them: of pulls, archives with names of their own, put, commit and import.
 */
import { LoamError } from '../errors/index.ts'
import { type Digest, pinOf, type StoredReference } from '../image/index.ts'

/**
 * What gave an image its name: the location of the name, or a user, or the image itself, which may come from anybody and may claim
 * any name.
 */
export const NAME_GIVERS = ['location', 'user', 'image'] as const
export type NameGiver = (typeof NAME_GIVERS)[number]

/** The origin of a name. */
export interface NameOrigin {
  readonly givenBy: NameGiver
  /** Texts of the locations that the image came from, in addition to that of the name. */
  readonly locations: readonly string[]
}

/** The image that a reference refers to on one platform. */
export interface NameRecord {
  /** Normalised reference, or transport and path of a local source. */
  readonly reference: StoredReference
  readonly platform: string
  /** Digest of the source's answer: of the index if there is one, else of the manifest. */
  readonly targetDigest: Digest
  readonly imageDigest: Digest
  readonly updatedAtMs: number
  /** Undefined if it was not recorded. */
  readonly origin: NameOrigin | undefined
  /** Whether its image is not known to exist anywhere else. */
  readonly isLocal: boolean
}

/** A name that an image is to get. */
export interface NewName extends Pick<NameRecord, 'reference' | 'targetDigest'>, NameOrigin {
  /** Whether it may replace the name of an image of its registry. */
  readonly mayReplace?: boolean | undefined
}

/** A name that an image claimed and did not get: another image has it, or its digest is not the image's. */
export interface LeftName {
  readonly reference: StoredReference
  readonly why: 'taken' | 'digest'
}

/** Returns whether a row is valid: a name with a digest refers only to the image with that digest, whichever version wrote the row. */
export function isTrueName({ reference, targetDigest, imageDigest, origin }: NameRecord): boolean {
  const pin = pinOf(reference)
  if (pin === undefined || pin === targetDigest || pin === imageDigest) return true
  // The id of an Appc image is the digest of its file, and was verified when the row was written.
  return reference.startsWith('appc://') && origin !== undefined
}

/** @throws DIGEST_MISMATCH for a name with a digest that is not one of the image's own */
export function checkPin(reference: StoredReference, own: readonly string[]): void {
  const pin = pinOf(reference)
  if (pin === undefined || own.includes(pin)) return
  const why =
    own.length === 0
      ? 'the digest of a new image is not known in advance'
      : `the image has a different digest, ${own.join(', ')}`
  throw new LoamError('DIGEST_MISMATCH', `name ${reference}: ${why}`, {
    hint: 'A name with a digest refers to exactly that content. Choose a name without a digest.',
  })
}

/** How to change a name, and the rows that it replaces. */
export type NamePlan =
  | { readonly kind: 'write'; readonly removed: readonly NameRecord[] }
  | { readonly kind: 'keep' }
  | { readonly kind: 'taken' }

/**
 * Decides how to change a name: `write` with the rows that it replaces, `keep` if it refers to the image already. A name that only the image claims
 * never replaces one that a registry or a user gave. @throws NAME_TAKEN when a user gives the name of a registry's image to another one, and
 * does not ask to replace it
 */
export function planName(
  name: NewName,
  image: Pick<NameRecord, 'imageDigest' | 'platform'>,
  held: readonly NameRecord[],
): NamePlan {
  const { givenBy, reference } = name
  const stronger = held.filter((row) => rankOf(row) > RANK[givenBy])
  if (stronger.length > 0) {
    const isSame = stronger.every(
      (row) => row.imageDigest === image.imageDigest || row.targetDigest === name.targetDigest,
    )
    if (isSame) return { kind: 'keep' }
    if (givenBy === 'image') return { kind: 'taken' }
    if (name.mayReplace !== true) throw taken(reference)
    return { kind: 'write', removed: held }
  }
  return { kind: 'write', removed: held.filter((row) => rankOf(row) < RANK[givenBy]) }
}

/** Returns whether only the image itself claims a name. */
export function isOwnWord({ origin }: Pick<NameRecord, 'origin'>): boolean {
  return origin?.givenBy === 'image'
}

const RANK: Readonly<Record<NameGiver, number>> = { image: 0, user: 1, location: 2 }

/**
 * Returns the rank of a name: one that only the image claims has the lowest. Older rows do not say who gave them: the name of a local
 * image came from a user, and all others from their registry.
 */
export function rankOf({ origin, isLocal }: NameRecord): number {
  return RANK[origin?.givenBy ?? (isLocal ? 'user' : 'location')]
}

function taken(reference: StoredReference): LoamError {
  return new LoamError(
    'NAME_TAKEN',
    `name ${reference}: the name belongs to an image that came from this location`,
    {
      hint: 'Choose another name, or move the name to the new image with --replace.',
    },
  )
}
