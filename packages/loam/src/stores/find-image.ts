/*
 * Which image of the store a name refers to.
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
  /** Finds what an image may be here by, when it is not here by the very name that was asked for. */
  readonly findOtherNames: (name: string, names: () => readonly NameRecord[]) => readonly NameRecord[]
}

/** What a name refers to in the store. */
export interface FoundImage {
  readonly record: ImageRecord
  readonly targetDigest: Digest
  /** Where it came from, besides the location of the name. */
  readonly from: readonly ImageLocation[]
}

/** Finds the image that a source says that it is. Where that came from, the source says, too. */
export function findStored(
  { stored }: ImageSource,
  { images }: Pick<MetadataStore, 'images'>,
): FoundImage | undefined {
  const record = stored === undefined ? undefined : images.find(stored.digest)
  return stored === undefined || record === undefined ? undefined : { ...stored, record, from: [] }
}

/** The documents say which image of a name is for a platform, the same way as when it was pulled; what its location has said first, then the latest. */
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
      // Documents that are damaged say nothing; what the name stood for is known all the same.
      (isWanted(row, platform ?? hostPlatform, platform === undefined) ? row.imageDigest : undefined)
    const record = digest === undefined ? undefined : metadata.images.find(digest)
    if (record === undefined) continue
    return { record, targetDigest: row.targetDigest, from: recordedLocations(row.origin) }
  }
  return undefined
}

/** Returns whether a name was recorded for a platform; an image that came without an index is meant for any. */
function isWanted(row: NameRecord, wanted: Platform, isAnyMeant: boolean): boolean {
  return (
    row.platform === formatPlatform(normalizePlatform(wanted)) ||
    (isAnyMeant && row.targetDigest === row.imageDigest)
  )
}
