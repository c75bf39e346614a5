import { isLoamError } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import { isOwnWord, type MetadataStore, type NameRecord } from '../metadata/index.ts'
import { distinctPlaces, type Place, recordedPlaces, UNKNOWN_PLACE } from '../policy/index.ts'
import { askedBy, type ImageName } from '../sources/index.ts'

/** Understands a name of the store. */
export type ParseName = (reference: string) => ImageName

/** Returns all places that an image of the store is known to be from: those of its names, or of its documents where it has none. */
export function placesOfImage(
  { images, origins }: Pick<MetadataStore, 'images' | 'origins'>,
  digest: Digest,
  parse: ParseName,
): Place[] {
  const names = images.listNames().filter(({ imageDigest }) => imageDigest === digest)
  const places =
    names.length > 0
      ? names.flatMap((name) => placesOfName(name, parse))
      : origins.list(digest).map((reference) => placeOfReference(reference, parse) ?? UNKNOWN_PLACE)
  return distinctPlaces(places.length > 0 ? places : [UNKNOWN_PLACE])
}

/**
 * Returns the place that a name is of, and those that its image came from. Of a name that only the image itself has given the image is not
 * known to be from there.
 */
function placesOfName(name: NameRecord, parse: ParseName): Place[] {
  const own = isOwnWord(name) ? undefined : placeOfReference(name.reference, parse)
  const places = [...(own === undefined ? [] : [own]), ...recordedPlaces(name.origin)]
  return places.length > 0 ? places : [UNKNOWN_PLACE]
}

/** Undefined for a file: its path cannot be told from its tag, and is among the places of its name. */
function placeOfReference(reference: string, parse: ParseName): Place | undefined {
  try {
    const name = parse(reference)
    return name.transport === 'docker' || name.transport === 'appc' ? askedBy(name).places[0] : undefined
  } catch (error) {
    if (!isLoamError(error)) throw error
    return UNKNOWN_PLACE
  }
}
