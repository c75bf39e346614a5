import { Readable } from 'node:stream'
import {
  describeBytes,
  type Digest,
  digestOf,
  EMPTY_CONFIG,
  formatLazyArtifact,
  type LazyArtifact,
  lazyArtifactTag,
  MEDIA_TYPES,
} from '../image/index.ts'
import type { ArtifactBlob } from './image-source.ts'
import { type ManifestTarget, putManifest } from './put-manifest.ts'

/** Nothing depends on it; a version in it would change the digest of an artifact whose indexes are the same. */
const WRITER = 'loam'

/**
 * Uploads the artifact of an image to its repository: the blobs that are missing there, then the manifest, under its tag and as a referrer of the image.
 * Replaces the artifact that is there. Returns its digest. @throws REGISTRY_*
 */
export async function pushLazyArtifact(
  to: ManifestTarget,
  artifact: LazyArtifact,
  blobs: readonly ArtifactBlob[],
  signal: AbortSignal | undefined,
): Promise<Digest> {
  const { client, reference } = to
  const bytes = formatLazyArtifact(artifact, WRITER)
  const digest = digestOf(bytes)
  const tagged = { ...reference, tag: lazyArtifactTag(artifact.subject.digest), digest: undefined }
  const present = await client.findPushed(tagged, signal)
  if (present?.digest === digest) return digest
  const empty = { ...describeBytes('', EMPTY_CONFIG), open: () => Readable.from([EMPTY_CONFIG]) }
  for (const { open, ...blob } of [empty, ...blobs]) {
    if (await client.hasBlob(reference, blob.digest, signal)) continue
    await client.putBlob(reference, { mediaType: MEDIA_TYPES.lazyLayer, ...blob }, open, signal)
  }
  await putManifest(
    { client, reference: tagged },
    { digest, bytes, mediaType: MEDIA_TYPES.ociManifest },
    signal,
  )
  return digest
}
