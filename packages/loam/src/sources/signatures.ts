// Registries keep signatures of images under the tag sha256-<hex>.sig (cosign) and as referrers (sigstore bundles, OCI 1.1).
import * as v from 'valibot'
import {
  check,
  type Descriptor,
  type Digest,
  type ImageReference,
  isDigest,
  parseStrictJson,
  MEDIA_TYPES,
  isBundleType,
} from '../image/index.ts'
import { MAX_SIGNATURE_BYTES, type Signature } from '../policy/index.ts'
import type { RegistryClient } from '../registry/index.ts'

/** Further signatures are ignored. */
const MAX_SIGNATURES = 64
const SIGNATURE_ANNOTATION = 'dev.cosignproject.cosign/signature'

const EntrySchema = v.object({
  mediaType: v.string(),
  digest: v.custom<Digest>(isDigest, 'is no digest'),
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  artifactType: v.optional(v.string()),
  annotations: v.nullish(v.record(v.string(), v.string())),
})
const ReferrersSchema = v.object({ manifests: v.nullish(v.array(EntrySchema)) })
const LayersSchema = v.object({ layers: v.nullish(v.array(EntrySchema)) })

type Entry = v.InferOutput<typeof EntrySchema>

/** Finds the signatures of an image in its own repository. The policy evaluates them. @throws REGISTRY_*, DOCUMENT_INVALID */
export async function findSignatures(
  client: RegistryClient,
  reference: ImageReference,
  digests: readonly Digest[],
  signal?: AbortSignal,
): Promise<Signature[]> {
  const found: Signature[] = []
  for (const digest of new Set(digests)) {
    const both = [
      findBundles(client, reference, digest, signal),
      findSimple(client, reference, digest, signal),
    ]
    found.push(...(await Promise.all(both)).flat())
  }
  return found.slice(0, MAX_SIGNATURES)
}

async function findSimple(
  client: RegistryClient,
  reference: ImageReference,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Signature[]> {
  const tagged = { ...reference, tag: `${digest.replace(':', '-')}.sig`, digest: undefined }
  const manifest = await client.findManifest(tagged, signal)
  if (manifest === undefined) return []
  const layers = entriesOf(LayersSchema, manifest.bytes, `signatures of ${digest}`).layers ?? []
  const signatures: Signature[] = []
  for (const layer of layers.slice(0, MAX_SIGNATURES)) {
    const signature = layer.annotations?.[SIGNATURE_ANNOTATION]
    if (layer.mediaType !== MEDIA_TYPES.simpleSigning || signature === undefined) continue
    const payload = await getSmallBlob(client, reference, layer, signal)
    signatures.push({ kind: 'simple', payload, signature })
  }
  return signatures
}

async function findBundles(
  client: RegistryClient,
  reference: ImageReference,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Signature[]> {
  const pages = await client.getReferrers(reference, digest, signal)
  const entries = pages.flatMap(
    (bytes) => entriesOf(ReferrersSchema, bytes, `referrers of ${digest}`).manifests ?? [],
  )
  const bundles = entries.filter(({ artifactType }) => isBundleType(artifactType ?? ''))
  const signatures: Signature[] = []
  for (const entry of bundles.slice(0, MAX_SIGNATURES)) {
    // The index may name a manifest that was removed.
    const manifest = await client.findManifest({ ...reference, digest: entry.digest }, signal)
    const layers =
      manifest === undefined ? [] : (entriesOf(LayersSchema, manifest.bytes, 'bundle').layers ?? [])
    const layer = layers.find(({ mediaType }) => isBundleType(mediaType))
    if (layer !== undefined)
      signatures.push({ kind: 'bundle', bytes: await getSmallBlob(client, reference, layer, signal) })
  }
  return signatures
}

async function getSmallBlob(
  client: RegistryClient,
  reference: ImageReference,
  { mediaType, digest, size }: Entry,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const descriptor: Descriptor = { mediaType, digest, sizeBytes: size }
  return client.getBlob(reference, descriptor, { maxBytes: MAX_SIGNATURE_BYTES, signal })
}

function entriesOf<Schema extends v.GenericSchema>(
  schema: Schema,
  bytes: Buffer,
  what: string,
): v.InferOutput<Schema> {
  return check(schema, parseStrictJson(bytes, what), what)
}
