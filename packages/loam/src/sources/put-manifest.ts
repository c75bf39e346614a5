import {
  changeIndex,
  type Descriptor,
  type Digest,
  formatIndex,
  type ImageReference,
  mediaTypeOf,
  MEDIA_TYPES,
  parseManifestDocument,
  referrersTag,
} from '../image/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { referrerOf } from './referrers.ts'

/** Where a manifest is pushed to: the tag or the digest of a reference. */
export interface ManifestTarget {
  readonly client: RegistryClient
  readonly reference: ImageReference
}

/** A manifest or an index of any kind. */
export interface PushedManifest {
  readonly digest: Digest
  readonly bytes: Buffer
  /** As an index or a registry states it; undefined or empty if none does. */
  readonly mediaType: string | undefined
}

/** Uploads a manifest. One that is about another one is listed among the referrers of that, by Loam if the registry does not do it. @throws REGISTRY_* */
export async function putManifest(
  to: ManifestTarget,
  { digest, bytes, mediaType: stated }: PushedManifest,
  signal: AbortSignal | undefined,
): Promise<void> {
  const what = `manifest ${digest}`
  const mediaType = mediaTypeOf(bytes, stated, what)
  const { subject, ...described } = referrerOf(bytes, what)
  const { isListed } = await to.client.putManifest(to.reference, mediaType, bytes, signal)
  if (subject === undefined || isListed) return
  await listReferrer(to, subject, { mediaType, digest, sizeBytes: bytes.length, ...described }, signal)
}

/**
 * Adds a manifest to the index of the referrers of its subject, which clients keep under a tag of registries without the referrers API
 * (OCI distribution-spec, "Pushing manifests with subject"). An entry that another client adds at the same moment may be lost, as the specification says.
 */
async function listReferrer(
  { client, reference }: ManifestTarget,
  subject: Digest,
  referrer: Descriptor,
  signal: AbortSignal | undefined,
): Promise<void> {
  const tagged = { ...reference, tag: referrersTag(subject), digest: undefined }
  const present = await client.findOwnManifest(tagged, signal)
  const index = present?.bytes ?? formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests: [] })
  const what = `referrers of ${subject}`
  const { mediaType } = parseManifestDocument(index, present?.contentType, what)
  let isThere = false
  const bytes = changeIndex(index, what, (entries) => {
    isThere = entries.some(({ digest }) => digest === referrer.digest)
    return [...entries, referrer]
  })
  if (!isThere) await client.putManifest(tagged, mediaType, bytes, signal)
}
