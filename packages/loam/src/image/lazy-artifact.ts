/*
 * The artifact that lets others pull an image lazily: an OCI 1.1 manifest whose subject is the manifest of the image.
 *
 *   artifactType  application/vnd.loamfs.lazy.v1
 *   config        the empty one
 *   subject       the manifest of the image
 *   layers        for each layer blob with a lazy index one of type …lazy.layer.v1, with the annotations
 *                 org.loamfs.lazy.blob (digest of the layer blob) and org.loamfs.lazy.diffid;
 *                 at most one of type …lazy.profile.v1+json: the spans that a container reads first
 *   annotations   org.loamfs.lazy.writer (who wrote it; nothing depends on it)
 *
 * A registry has it under the tag sha256-<hex of the image>.loam, and as a referrer of the image.
 */
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { type DiffId, type Digest, isDigest, splitDigest } from './digest.ts'
import { check, type Descriptor } from './documents.ts'
import { describeBytes, formatManifest } from './format-documents.ts'
import { goList, goStruct, goText, goTextMap } from './go-json.ts'
import { parseStrictJson } from './json.ts'
import { MEDIA_TYPES } from './media-types.ts'

const BLOB = 'org.loamfs.lazy.blob'
const DIFF_ID = 'org.loamfs.lazy.diffid'
const WRITER = 'org.loamfs.lazy.writer'

/** The config of an artifact that has none (OCI image-spec, guidance for an empty descriptor). */
export const EMPTY_CONFIG = Buffer.from('{}')

/** The lazy index of one layer blob, as an artifact names it. */
export interface LazyArtifactLayer {
  /** Digest of the layer blob. */
  readonly blob: Digest
  readonly diffId: DiffId
  /** The blob of the index itself. */
  readonly index: Pick<Descriptor, 'digest' | 'sizeBytes'>
}

/** The lazy indexes of one image. */
export interface LazyArtifact {
  /** The manifest of the image. */
  readonly subject: Pick<Descriptor, 'mediaType' | 'digest' | 'sizeBytes'>
  readonly layers: readonly LazyArtifactLayer[]
  /** The blob of its profile; undefined for none. */
  readonly profile: Pick<Descriptor, 'digest' | 'sizeBytes'> | undefined
}

const digest = v.custom<Digest>(isDigest, 'is not a digest')
const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const DescriptorSchema = goStruct({ mediaType: goText, digest, size, annotations: goTextMap })
const ArtifactSchema = goStruct({
  mediaType: v.literal(MEDIA_TYPES.ociManifest),
  artifactType: v.literal(MEDIA_TYPES.lazyArtifact),
  config: goStruct({ mediaType: v.literal(MEDIA_TYPES.ociEmpty), digest, size }),
  layers: goList(DescriptorSchema),
  subject: DescriptorSchema,
})

/** A tag has at most 128 characters (OCI distribution-spec); its fallback for referrers cuts longer digests, too. */
const TAG_HEX = 64

/** Returns the tag under which a registry has the artifact of an image. */
export function lazyArtifactTag(image: Digest): string {
  const { algorithm, hex } = splitDigest(image)
  return `${algorithm}-${hex.slice(0, TAG_HEX)}.loam`
}

/** Writes the artifact of an image. The same indexes give the same bytes, so that a signature of them stays valid. */
export function formatLazyArtifact({ subject, layers, profile }: LazyArtifact, writer: string): Buffer {
  const { mediaType, digest: image, sizeBytes } = subject
  return formatManifest({
    mediaType: MEDIA_TYPES.ociManifest,
    artifactType: MEDIA_TYPES.lazyArtifact,
    config: describeBytes(MEDIA_TYPES.ociEmpty, EMPTY_CONFIG),
    layers: [
      ...layers.map(({ blob, diffId, index }) => ({
        mediaType: MEDIA_TYPES.lazyLayer,
        digest: index.digest,
        sizeBytes: index.sizeBytes,
        annotations: { [BLOB]: blob, [DIFF_ID]: diffId },
      })),
      ...(profile === undefined ? [] : [{ mediaType: MEDIA_TYPES.lazyProfile, ...plain(profile) }]),
    ],
    subject: { mediaType, digest: image, sizeBytes },
    annotations: { [WRITER]: writer },
  })
}

/** Parses an artifact. Layers of other types are left out: a later version may add some. @throws DOCUMENT_INVALID */
export function parseLazyArtifact(bytes: Uint8Array, what: string): LazyArtifact {
  const { layers, subject } = check(ArtifactSchema, parseStrictJson(bytes, what), what)
  const profile = layers.find(({ mediaType }) => mediaType === MEDIA_TYPES.lazyProfile)
  return {
    subject: { mediaType: subject.mediaType, digest: subject.digest, sizeBytes: subject.size },
    layers: layers
      .filter(({ mediaType }) => mediaType === MEDIA_TYPES.lazyLayer)
      .map(({ digest: index, size: sizeBytes, annotations }) => ({
        blob: annotated(annotations, BLOB, what),
        diffId: annotated(annotations, DIFF_ID, what) as DiffId,
        index: { digest: index, sizeBytes },
      })),
    profile: profile === undefined ? undefined : { digest: profile.digest, sizeBytes: profile.size },
  }
}

function annotated(annotations: Readonly<Record<string, string>>, name: string, what: string): Digest {
  const value = annotations[name]
  if (isDigest(value)) return value
  throw new LoamError('DOCUMENT_INVALID', `parse ${what}: the annotation ${name} of a layer is not a digest`)
}

function plain({ digest: of, sizeBytes }: Pick<Descriptor, 'digest' | 'sizeBytes'>) {
  return { digest: of, sizeBytes }
}
