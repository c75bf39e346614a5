/*
 * Finds the image of the store that a name refers to.
 */
import type { BlobStore } from '../content/index.ts'
import {
  type Digest,
  formatPlatform,
  normalizePlatform,
  type Platform,
  type StoredReference,
} from '../image/index.ts'
import {
  type ImageRecord,
  type ImageType,
  type MetadataStore,
  type NameRecord,
  rankOf,
} from '../metadata/index.ts'
import { type ImageLocation, recordedLocations } from '../policy/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { resolveStored } from './resolve.ts'

/** The differences between the stores of images. */
export interface ImageNaming {
  readonly type: ImageType
  /** Finds other names by which the store may have an image that it does not have by the requested name. */
  readonly findOtherNames: (name: string, names: () => readonly NameRecord[]) => readonly NameRecord[]
}

/** The image of the store that a name refers to. */
export interface FoundImage {
  readonly record: ImageRecord
  readonly targetDigest: Digest
  /** Locations that it came from, in addition to that of the name. */
  readonly from: readonly ImageLocation[]
}

/** Finds the image of a source that reads from the store. Its source also knows the locations that it came from. */
export function findStored(
  { stored }: ImageSource,
  { images }: Pick<MetadataStore, 'images'>,
): FoundImage | undefined {
  const record = stored === undefined ? undefined : images.find(stored.digest)
  return stored === undefined || record === undefined ? undefined : { ...stored, record, from: [] }
}

/** Finds the image of a name for a platform, by the documents as when it was pulled: an image that its location gave first, then the latest one. */
export function findNamed(
  name: StoredReference,
  platform: Platform | undefined,
  options: {
    readonly metadata: MetadataStore
    readonly blobs: BlobStore
    readonly hostPlatform: Platform
    readonly naming: ImageNaming
  },
): FoundImage | undefined {
  const { metadata, blobs, hostPlatform, naming } = options
  const named = metadata.images.findNames(name)
  const candidates = named.length > 0 ? named : naming.findOtherNames(name, () => metadata.images.listNames())
  const ordered = candidates.toSorted((a, b) => rankOf(b) - rankOf(a) || b.updatedAtMs - a.updatedAtMs)
  for (const row of ordered) {
    const digest =
      resolveStored(row.targetDigest, { blobs, platform, hostPlatform }) ??
      // Damaged documents are no help, but the digest that the name referred to is known.
      (isWanted(row, platform ?? hostPlatform, platform === undefined) ? row.imageDigest : undefined)
    const record = digest === undefined ? undefined : metadata.images.find(digest)
    if (record === undefined) continue
    return { record, targetDigest: row.targetDigest, from: recordedLocations(row.origin) }
  }
  return undefined
}

/** Returns whether a name was recorded for a platform; an image that came without an index counts for every platform. */
function isWanted(row: NameRecord, wanted: Platform, isAnyMeant: boolean): boolean {
  return (
    row.platform === formatPlatform(normalizePlatform(wanted)) ||
    (isAnyMeant && row.targetDigest === row.imageDigest)
  )
}
