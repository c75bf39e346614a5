// Registries keep signatures of images under the tag sha256-<hex>.sig (cosign) and as referrers (sigstore bundles, OCI 1.1).
import * as v from 'valibot'
import { isLoamError, type LoamError } from '../errors/index.ts'
import {
  check,
  cosignTag,
  type Descriptor,
  type Digest,
  type ImageReference,
  isDigest,
  parseStrictJson,
  MEDIA_TYPES,
  isBundleType,
} from '../image/index.ts'
import { MAX_SIGNATURE_BYTES, type Signature, SIGNATURE_PREDICATE } from '../policy/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { listSchema } from './listed-entries.ts'

/** Candidates of each form that are read for a digest: anybody who may push can add some. */
const MAX_CANDIDATES = 256
/** Bytes that are read of them, with their manifests. */
const MAX_READ_BYTES = 64 << 20
/** Answers about what is asked for: some registries refuse digests of another algorithm, or block what was pushed. */
const ABOUT_CONTENT = [400, 410, 412, 422, 451]
const SIGNATURE_ANNOTATION = 'dev.cosignproject.cosign/signature'
/** Names the kind of statement of a bundle, in the list of referrers and in the bundle's manifest. */
const PREDICATE_ANNOTATION = 'dev.sigstore.bundle.predicateType'

const EntrySchema = v.object({
  mediaType: v.string(),
  digest: v.custom<Digest>(isDigest, 'is no digest'),
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  artifactType: v.optional(v.string()),
  annotations: v.nullish(v.record(v.string(), v.string())),
})
const ListSchema = v.object({
  manifests: listSchema,
  layers: listSchema,
  annotations: v.nullish(v.record(v.string(), v.unknown())),
})

type Entry = v.InferOutput<typeof EntrySchema>

interface Place {
  readonly client: RegistryClient
  readonly reference: ImageReference
  readonly signal: AbortSignal | undefined
}

/** What may still be read of one form. */
interface Budget {
  leftBytes: number
}

/**
 * Finds the signatures of an image in its own repository, and yields each when it is asked for. The policy evaluates them. A candidate that
 * cannot be read is yielded as such. @throws REGISTRY_*
 */
export async function* findSignatures(
  client: RegistryClient,
  reference: ImageReference,
  digests: readonly Digest[],
  signal?: AbortSignal,
): AsyncGenerator<Signature> {
  const place = { client, reference, signal }
  for (const digest of new Set(digests)) {
    yield* readable(() => findSimple(place, digest))
    yield* readable(() => findBundles(place, digest))
  }
}

/** Yields what `read` yields. Errors of what was pushed, and not of the registry, are a candidate that cannot be read. */
async function* readable(read: () => AsyncIterable<Signature>): AsyncGenerator<Signature> {
  try {
    yield* read()
  } catch (error) {
    if (!isLoamError(error) || !isOfContent(error)) throw error
    yield { kind: 'unreadable', why: error.message }
  }
}

function isOfContent(error: LoamError): boolean {
  const { status } = error.details
  if (isLoamError(error, 'REGISTRY_RESPONSE')) return ABOUT_CONTENT.includes(Number(status))
  return isLoamError(
    error,
    'DOCUMENT_INVALID',
    'DOCUMENT_TOO_LARGE',
    'DIGEST_MISMATCH',
    'SIZE_MISMATCH',
    'IMAGE_NOT_FOUND',
  )
}

async function* findSimple(place: Place, digest: Digest): AsyncGenerator<Signature> {
  const { client, reference, signal } = place
  const tag = cosignTag(digest, 'sig')
  if (tag === undefined) return
  const manifest = await client.findManifest({ ...reference, tag, digest: undefined }, signal)
  if (manifest === undefined) return
  const what = `signatures of ${digest}`
  const { valid, invalid } = entriesOf(readList(manifest.bytes, what).layers, what)
  const signed = valid.filter(
    ({ mediaType, annotations }) =>
      mediaType === MEDIA_TYPES.simpleSigning && annotations?.[SIGNATURE_ANNOTATION] !== undefined,
  )
  yield* readEach(signed, what, async function* read(layer, budget) {
    const signature = layer.annotations?.[SIGNATURE_ANNOTATION] ?? ''
    yield { kind: 'simple', payload: await getSmallBlob(place, layer, budget), signature }
  })
  yield* invalid
}

async function* findBundles(place: Place, digest: Digest): AsyncGenerator<Signature> {
  const what = `referrers of ${digest}`
  const pages = await place.client.getReferrers(place.reference, digest, place.signal)
  const listed: Entry[] = []
  for (const page of pages) {
    yield* readable(async function* read() {
      const { valid, invalid } = entriesOf(readList(page, what).manifests, what)
      listed.push(...valid)
      yield* invalid
    })
  }
  const bundles = listed.filter(
    ({ artifactType, annotations }) => isBundleType(artifactType ?? '') && !isOtherStatement(annotations),
  )
  yield* readEach(bundles, what, (entry, budget) => readBundle(place, entry, budget))
}

async function* readBundle(place: Place, entry: Entry, budget: Budget): AsyncGenerator<Signature> {
  const { client, reference, signal } = place
  // The list may name a manifest that was removed.
  const manifest = await client.findManifest({ ...reference, digest: entry.digest }, signal)
  if (manifest === undefined) return
  budget.leftBytes -= manifest.bytes.length
  const what = `bundle ${entry.digest}`
  const { layers, annotations } = readList(manifest.bytes, what)
  if (isOtherStatement(annotations)) return
  const { valid, invalid } = entriesOf(layers, what)
  const layer = valid.find(({ mediaType }) => isBundleType(mediaType))
  if (layer === undefined) yield* invalid
  else yield { kind: 'bundle', bytes: await getSmallBlob(place, layer, budget) }
}

/** Reads candidates of one form one by one, as many as the limits allow. */
async function* readEach(
  candidates: readonly Entry[],
  what: string,
  read: (candidate: Entry, budget: Budget) => AsyncIterable<Signature>,
): AsyncGenerator<Signature> {
  const budget = { leftBytes: MAX_READ_BYTES }
  for (const [index, candidate] of candidates.entries()) {
    if (index === MAX_CANDIDATES || budget.leftBytes <= 0) {
      yield { kind: 'unreadable', why: `only ${index} of ${candidates.length} ${what} were read` }
      return
    }
    yield* readable(() => read(candidate, budget))
  }
}

/** Returns whether annotations name a statement that is not a signature, for example a bill of materials. */
function isOtherStatement(annotations: Readonly<Record<string, unknown>> | null | undefined): boolean {
  const predicate = annotations?.[PREDICATE_ANNOTATION] ?? SIGNATURE_PREDICATE
  return predicate !== SIGNATURE_PREDICATE
}

async function getSmallBlob(
  { client, reference, signal }: Place,
  { mediaType, digest, size }: Entry,
  budget: Budget,
): Promise<Buffer> {
  const descriptor: Descriptor = { mediaType, digest, sizeBytes: size }
  if (size <= MAX_SIGNATURE_BYTES) budget.leftBytes -= size
  return client.getBlob(reference, descriptor, { maxBytes: MAX_SIGNATURE_BYTES, signal })
}

function readList(bytes: Buffer, what: string): v.InferOutput<typeof ListSchema> {
  return check(ListSchema, parseStrictJson(bytes, what), what)
}

/** Separates the entries of a list from those that are none: of these the first tells why. */
function entriesOf(
  values: readonly unknown[] | null | undefined,
  what: string,
): { readonly valid: readonly Entry[]; readonly invalid: readonly Signature[] } {
  const valid: Entry[] = []
  let invalid: Signature | undefined
  for (const value of values ?? []) {
    try {
      valid.push(check(EntrySchema, value, `an entry of ${what}`))
    } catch (error) {
      if (!isLoamError(error)) throw error
      invalid ??= { kind: 'unreadable', why: error.message }
    }
  }
  return { valid, invalid: invalid === undefined ? [] : [invalid] }
}
