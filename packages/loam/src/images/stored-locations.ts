import { isLoamError } from '../errors/index.ts'
import type { Digest, StoredReference } from '../image/index.ts'
import { isOwnWord, type MetadataStore, type NameRecord } from '../metadata/index.ts'
import {
  distinctLocations,
  type ImageLocation,
  recordedLocations,
  UNKNOWN_LOCATION,
} from '../policy/index.ts'
import { askedBy, type ImageName } from '../sources/index.ts'

/** Parses a name of the store. */
export type ParseName = (reference: string) => ImageName

/** An image of the store. */
export interface LocatedImage {
  readonly digest: Digest
  /** The only one of its names that matters, if it is one. Undefined: all matter. */
  readonly reference: StoredReference | undefined
}

/** Returns all locations that an image of the store is known to be from: those of its names, or of its documents if it has none. */
export function locationsOfImage(
  { images, origins }: Pick<MetadataStore, 'images' | 'origins'>,
  { digest, reference }: LocatedImage,
  parse: ParseName,
): ImageLocation[] {
  const all = images.namesOf(digest)
  const asked = all.filter((name) => name.reference === reference)
  const names = asked.length > 0 ? asked : all
  const locations =
    names.length > 0
      ? names.flatMap((name) => locationsOfName(name, parse))
      : origins.list(digest).map((origin) => locationOfReference(origin, parse) ?? UNKNOWN_LOCATION)
  return distinctLocations(locations.length > 0 ? locations : [UNKNOWN_LOCATION])
}

/**
 * Returns the location of a name, and those that its image came from. If only the image itself claims the name, its location
 * does not count.
 */
function locationsOfName(name: NameRecord, parse: ParseName): ImageLocation[] {
  const own = isOwnWord(name) ? undefined : locationOfReference(name.reference, parse)
  const locations = [...(own === undefined ? [] : [own]), ...recordedLocations(name.origin)]
  return locations.length > 0 ? locations : [UNKNOWN_LOCATION]
}

/** Returns undefined for a file: its path cannot be distinguished from its tag, and is among the locations of its name. */
function locationOfReference(reference: string, parse: ParseName): ImageLocation | undefined {
  try {
    const name = parse(reference)
    return name.transport === 'docker' || name.transport === 'appc' ? askedBy(name).locations[0] : undefined
  } catch (error) {
    if (!isLoamError(error)) throw error
    return UNKNOWN_LOCATION
  }
}
