/*
 * The names that an image gets when it is stored.
 */
import { type Digest, pinOf, type StoredReference } from '../image/index.ts'
import { checkPin, type ImageType, type LeftName, type NewName } from '../metadata/index.ts'
import { distinctLocations, formatLocation, type ImageLocation } from '../policy/index.ts'
import { appcIdOf, type ImageSource } from '../sources/index.ts'
import type { ResolvedImage } from './resolve.ts'

/** Limited because every command reads the names of all images. */
const MAX_ALIASES = 1000

/** Refuses an image that cannot have its name, before more of it is fetched. @throws DIGEST_MISMATCH */
export function checkName(source: ImageSource, resolved: ResolvedImage, type: ImageType): void {
  if (source.stored !== undefined || resolved.pinNote !== undefined) return
  const id = type === 'appc' ? appcIdOf(resolved.manifest.annotations) : undefined
  checkPin(source.name, [resolved.targetDigest, resolved.digest, ...(id === undefined ? [] : [id])])
}

/** Returns the names that an image gets, and notes about names that it cannot have. */
export function namesFor(
  source: ImageSource,
  image: {
    readonly targetDigest: Digest
    readonly from: readonly ImageLocation[]
    readonly pinNote: string | undefined
  },
  ids: readonly string[],
): { readonly names: NewName[]; readonly notes: string[] } {
  // A request by an id gives the image no name, unless it is a tag.
  if (source.stored !== undefined && source.givenBy === undefined) return { names: [], notes: [] }
  const { targetDigest, pinNote } = image
  const locations = distinctLocations(image.from).map(formatLocation)
  const give = (reference: StoredReference, givenBy: NewName['givenBy']): NewName => ({
    reference,
    targetDigest,
    givenBy,
    locations,
    mayReplace: source.mayReplace,
  })
  const { name, fileName } = source
  const pin = pinOf(name)
  const isOther = pinNote !== undefined && pin !== undefined && !ids.includes(pin)
  const given = [...new Set(source.aliases)].filter((alias) => alias !== name && alias !== fileName)
  const names = [
    ...(isOther ? [] : [give(name, source.givenBy ?? 'location')]),
    ...(fileName === undefined ? [] : [give(fileName, 'location')]),
    ...given.slice(0, MAX_ALIASES).map((alias) => give(alias, source.aliasesGivenBy ?? 'image')),
  ]
  const notes = isOther ? [`${name} is not kept as a name: ${pinNote}`] : []
  if (given.length > MAX_ALIASES)
    notes.push(`of the ${given.length} names given in the image, the first ${MAX_ALIASES} are kept`)
  return { names, notes }
}

/** Returns one line about a name of its own that an image did not get. */
export function describeLeft({ reference, why }: LeftName): string {
  return why === 'digest'
    ? `${reference} is not one of its names: the image has another digest`
    : `${reference} keeps naming its present image; to replace it: loam put FILE ${reference} --replace`
}
