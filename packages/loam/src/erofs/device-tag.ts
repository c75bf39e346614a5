import { type DiffId, splitDigest } from '../image/index.ts'

const TAG_CHARACTERS = 64

/** Returns the tag that an image's device table has for a layer. */
export function deviceTag(diffId: DiffId): string {
  return splitDigest(diffId).hex.slice(0, TAG_CHARACTERS)
}
