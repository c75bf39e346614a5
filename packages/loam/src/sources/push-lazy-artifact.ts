import { Readable } from 'node:stream'
import {
  changeIndex,
  type Descriptor,
  describeBytes,
  type Digest,
  digestOf,
  EMPTY_CONFIG,
  formatIndex,
  formatLazyArtifact,
  type ImageReference,
  type LazyArtifact,
  lazyArtifactTag,
  MEDIA_TYPES,
  parseManifestDocument,
  splitDigest,
} from '../image/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import type { ArtifactBlob } from './image-source.ts'

/** Nothing depends on it; a version in it would change the digest of an artifact whose indexes are the same. */
const WRITER = 'loam'

/** The repository that artifacts are pushed to. */
export interface ArtifactTarget {
  readonly client: RegistryClient
  readonly reference: ImageReference
}

/**
 * Uploads the artifact of an image to its repository: the blobs that are missing there, then the manifest, under its tag and as a referrer of the image.
 * Replaces the artifact that is there. Returns its digest. @throws REGISTRY_*
 */
export async function pushLazyArtifact(
  to: ArtifactTarget,
  artifact: LazyArtifact,
  blobs: readonly ArtifactBlob[],
  signal: AbortSignal | undefined,
): Promise<Digest> {
  const { client, reference } = to
  const bytes = formatLazyArtifact(artifact, WRITER)
  const digest = digestOf(bytes)
  const image = artifact.subject.digest
  const tagged = { ...reference, tag: lazyArtifactTag(image), digest: undefined }
  const present = await client.findPushed(tagged, signal)
  if (present?.digest === digest) return digest
  const empty = { ...describeBytes('', EMPTY_CONFIG), open: () => Readable.from([EMPTY_CONFIG]) }
  for (const { open, ...blob } of [empty, ...blobs]) {
    if (await client.hasBlob(reference, blob.digest, signal)) continue
    await client.putBlob(reference, { mediaType: MEDIA_TYPES.lazyLayer, ...blob }, open, signal)
  }
  const { isListed } = await client.putManifest(tagged, MEDIA_TYPES.ociManifest, bytes, signal)
  const described = {
    ...describeBytes(MEDIA_TYPES.ociManifest, bytes),
    artifactType: MEDIA_TYPES.lazyArtifact,
  }
  if (!isListed) await listReferrer(to, image, described, signal)
  return digest
}

/**
 * Adds the artifact to the index of the referrers of an image, which clients keep under the tag `<algorithm>-<hex>` of registries without the referrers API
 * (OCI distribution-spec, "Pushing manifests with subject"). An entry that another client adds at the same moment may be lost, as the specification says.
 */
export async function listReferrer(
  { client, reference }: ArtifactTarget,
  image: Digest,
  artifact: Descriptor,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { algorithm, hex } = splitDigest(image)
  const tagged = { ...reference, tag: `${algorithm}-${hex.slice(0, 64)}`, digest: undefined }
  const present = await client.findManifest(tagged, signal)
  const index = present?.bytes ?? formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests: [] })
  const what = `referrers of ${image}`
  const { mediaType } = parseManifestDocument(index, present?.contentType, what)
  let isThere = false
  const bytes = changeIndex(index, what, (entries) => {
    isThere = entries.some(({ digest }) => digest === artifact.digest)
    return [...entries, artifact]
  })
  if (!isThere) await client.putManifest(tagged, mediaType, bytes, signal)
}
