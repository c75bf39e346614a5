/*
 * Which image of an archive is meant. An archive of `docker save` may hold several, each with any number of references.
 */
import { isLoamError, LoamError } from '../errors/index.ts'
import { formatReference, type ImageReference, parseReference, type StoredReference } from '../image/index.ts'

/** Chooses an image. */
export interface ArchiveChoice {
  /** A reference that the archive has to have. */
  readonly selector?: string | undefined
  /** The name that the image gets. It chooses among several images; a single one need not have it. */
  readonly name?: ImageReference | undefined
  /** Its place among the images of the archive, for one without a name. */
  readonly position?: number | undefined
}

/** An image of an archive under all its references. */
export interface ArchivedImage<Image> {
  readonly references: readonly string[]
  readonly image: Image
}

/** Joins entries of an archive that are one image under several names. */
export function joinArchived<Image>(
  entries: readonly ArchivedImage<Image>[],
  keyOf: (image: Image) => string,
): ArchivedImage<Image>[] {
  const groups = Map.groupBy(entries, ({ image }) => keyOf(image))
  return [...groups.values()].flatMap((group) => {
    const [first] = group
    return first === undefined
      ? []
      : [{ image: first.image, references: group.flatMap(({ references }) => references) }]
  })
}

/** Returns the image that is meant. @throws IMAGE_NOT_FOUND with the references that there are, REFERENCE_INVALID */
export function chooseArchived<Image>(
  path: string,
  images: readonly ArchivedImage<Image>[],
  { selector, name, position }: ArchiveChoice,
): ArchivedImage<Image> {
  const placed = position === undefined ? undefined : images[position]
  if (placed !== undefined) return placed
  const wanted = selector === undefined ? name : parseReference(selector)
  const found =
    wanted === undefined
      ? undefined
      : images.find(({ references }) =>
          references.some((text) => normalizeReference(text, wanted.registry) === formatReference(wanted)),
        )
  const [only, other] = images
  const chosen = found ?? (selector === undefined && other === undefined ? only : undefined)
  if (chosen !== undefined) return chosen
  const lacks = wanted === undefined ? '' : ` none of them is ${selector ?? formatReference(wanted)}`
  const known = images
    .flatMap(({ references }) => references.filter((text) => normalizeReference(text) !== undefined))
    .slice(0, 10)
  throw new LoamError(
    'IMAGE_NOT_FOUND',
    `read docker archive ${path}: it has ${images.length} images${lacks}`,
    {
      hint: known.length === 0 ? undefined : `Name one of: ${known.join(', ')} (docker-archive:FILE:REF)`,
    },
  )
}

/** Returns the selector that finds the same image again; undefined for the only image. */
export function selectorOf<Image>(
  { selector, name }: ArchiveChoice,
  { references }: ArchivedImage<Image>,
): string | undefined {
  if (selector !== undefined || name === undefined) return selector
  return references.find((text) => normalizeReference(text, name.registry) === formatReference(name))
}

/** Returns the references in their full form; a text that is not a reference is left out, such as `<none>:<none>`. */
export function namesOf({ references }: Pick<ArchivedImage<unknown>, 'references'>): StoredReference[] {
  return references.flatMap((text) => normalizeReference(text) ?? [])
}

/** Returns a reference in its full form; undefined for a text that is not a reference. */
export function normalizeReference(text: string, registry?: string): StoredReference | undefined {
  try {
    return formatReference(parseReference(text, registry))
  } catch (error) {
    if (isLoamError(error, 'REFERENCE_INVALID')) return undefined
    throw error
  }
}
