// What a registry keeps beside an image: referrers (OCI 1.1), artifacts under cosign's tags sha256-<hex>.sig, .att and .sbom.
import * as v from 'valibot'
import {
  check,
  cosignTag,
  type Descriptor,
  type Digest,
  digestOf,
  goStruct,
  goText,
  goTextMap,
  type ImageReference,
  isBundleType,
  isDigest,
  MEDIA_TYPES,
  parseStrictJson,
} from '../image/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { fittingEntries, listSchema } from './listed-entries.ts'

/** What a referrer is, as far as its types say. */
export type ReferrerKind = 'signature' | 'sbom' | 'attestation' | 'lazy-index' | 'other'

/** A manifest in a registry that is about an image. Nothing of it is verified. */
export interface Referrer {
  /** What it is, by its types. */
  readonly kind: ReferrerKind
  /** Digest of its manifest. */
  readonly digest: Digest
  /** The digest that it is about: of the index or of a manifest. */
  readonly subject: Digest
  /** Its artifact type, or the media type of its config or its first layer. */
  readonly type: string
  /** Types of the statements that it contains, as https://spdx.dev/Document. */
  readonly predicates: readonly string[]
  /** The tag that it is found by; undefined for one that the registry lists as a referrer or that the index contains. */
  readonly tag: string | undefined
}

const COSIGN_SUFFIXES = ['sig', 'att', 'sbom'] as const

const text = v.optional(v.string())
const EntrySchema = v.object({
  mediaType: text,
  digest: v.custom<Digest>(isDigest, 'is not a digest'),
  artifactType: text,
  annotations: v.nullish(v.record(v.string(), v.string())),
})
const IndexSchema = v.object({ manifests: listSchema })
const ManifestSchema = v.object({
  artifactType: text,
  config: v.nullish(v.object({ mediaType: text })),
  layers: listSchema,
})
const ReferrerSchema = goStruct({
  artifactType: goText,
  config: goStruct({ mediaType: goText }),
  // One that cannot be read, as a digest of another algorithm, has no list of referrers.
  subject: v.fallback(
    v.nullish(goStruct({ digest: v.custom<Digest>(isDigest, 'is not a digest') })),
    undefined,
  ),
  annotations: goTextMap,
})

/** Finds what is kept beside an image, by the digests of its index and its manifests. @throws REGISTRY_*, DOCUMENT_INVALID */
export async function findReferrers(
  client: RegistryClient,
  reference: ImageReference,
  digests: readonly Digest[],
  signal?: AbortSignal,
): Promise<Referrer[]> {
  const found: Referrer[] = []
  for (const subject of new Set(digests)) {
    found.push(...(await listed(client, reference, subject, signal)))
    for (const suffix of COSIGN_SUFFIXES)
      found.push(...(await tagged({ client, reference, signal }, subject, suffix)))
  }
  const distinct = new Map(found.map((each) => [`${each.digest} ${each.subject}`, each]))
  return [...distinct.values()]
}

async function listed(
  client: RegistryClient,
  reference: ImageReference,
  subject: Digest,
  signal: AbortSignal | undefined,
): Promise<Referrer[]> {
  const what = `referrers of ${subject}`
  const pages = await client.getReferrers(reference, subject, signal)
  const entries = pages.flatMap(
    (bytes) => check(IndexSchema, parseStrictJson(bytes, what), what).manifests ?? [],
  )
  return fittingEntries(EntrySchema, entries).map(({ digest, artifactType, mediaType = '', annotations }) => {
    const type = artifactType ?? mediaType
    const predicates = Object.entries(annotations ?? {}).flatMap(([key, value]) =>
      /predicate-?type$/i.test(key) ? [value] : [],
    )
    return { kind: kindOf(type, predicates), digest, subject, type, predicates, tag: undefined }
  })
}

async function tagged(
  {
    client,
    reference,
    signal,
  }: Readonly<{
    client: RegistryClient
    reference: ImageReference
    signal: AbortSignal | undefined
  }>,
  subject: Digest,
  suffix: (typeof COSIGN_SUFFIXES)[number],
): Promise<Referrer[]> {
  const tag = cosignTag(subject, suffix)
  if (tag === undefined) return []
  const manifest = await client.findManifest({ ...reference, tag, digest: undefined }, signal)
  if (manifest === undefined) return []
  const { type, predicates } = readArtifact(manifest.bytes, `manifest ${tag}`)
  const kind =
    suffix === 'sig' ? 'signature' : suffix === 'sbom' ? 'sbom' : kindOf(MEDIA_TYPES.inToto, predicates)
  return [{ kind, digest: digestOf(manifest.bytes), subject, type, predicates, tag }]
}

/** Reads the type of an artifact, and the types of the statements in it. @throws DOCUMENT_INVALID */
export function readArtifact(
  bytes: Buffer,
  what: string,
): { readonly type: string; readonly predicates: readonly string[] } {
  const { artifactType, config, layers } = check(ManifestSchema, parseStrictJson(bytes, what), what)
  const all = fittingEntries(EntrySchema, layers)
  const predicates = all.flatMap(({ annotations }) =>
    Object.entries(annotations ?? {}).flatMap(([key, value]) =>
      /predicate-?type$/i.test(key) ? [value] : [],
    ),
  )
  const type = artifactType ?? all[0]?.mediaType ?? config?.mediaType ?? ''
  return { type, predicates: [...new Set(predicates)] }
}

/** Returns the subject of a manifest, if it is a referrer, and its fields in the list of referrers (OCI distribution-spec). @throws DOCUMENT_INVALID */
export function referrerOf(
  bytes: Buffer,
  what: string,
): { readonly subject: Digest | undefined } & Pick<Descriptor, 'artifactType' | 'annotations'> {
  const { artifactType, config, subject, annotations } = check(
    ReferrerSchema,
    parseStrictJson(bytes, what),
    what,
  )
  const type = artifactType === '' ? config.mediaType : artifactType
  return {
    subject: subject?.digest,
    artifactType: type === '' ? undefined : type,
    annotations: Object.keys(annotations).length === 0 ? undefined : annotations,
  }
}

/** Returns what an artifact is, by its type and the types of its statements. */
export function kindOf(type: string, predicates: readonly string[]): ReferrerKind {
  if (type === MEDIA_TYPES.lazyArtifact || /soci/.test(type)) return 'lazy-index'
  if ([type, ...predicates].some((each) => /spdx|cyclonedx|syft|sbom/i.test(each))) return 'sbom'
  if (predicates.some((each) => !/cosign\/sign/.test(each)) || type === MEDIA_TYPES.inToto)
    return 'attestation'
  if (isBundleType(type) || /signature|cosign|simplesigning/i.test(type)) return 'signature'
  return /in-toto|attestation|provenance/i.test(type) ? 'attestation' : 'other'
}
