import type { BlobStore, IngestArea } from '../content/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import {
  describeEntries,
  type Descriptor,
  type Digest,
  digestOf,
  type DocumentKind,
  type DocumentLimits,
  checkDocumentSize,
  limitOf,
  formatPlatform,
  type ImageIndex,
  type ImageManifest,
  isFor,
  mayBeIndex,
  parseImageConfig,
  parseManifestDocument,
  type Platform,
  rankEntries,
  splitDigest,
} from '../image/index.ts'
import { TimeSlice } from '../linux/index.ts'
import type { ImageSource, SourceDocument } from '../sources/index.ts'

const MAX_INDEX_DEPTH = 3
/** Limit of documents to read for one image, in indexes that do not say which platforms their entries are for. */
const MAX_LOOKUPS = 64

/** The manifest that a name refers to on one platform. */
export interface ResolvedImage {
  /** Digest of the document that the source answered with. */
  readonly targetDigest: Digest
  readonly digest: Digest
  readonly manifest: ImageManifest
  readonly manifestBytes: Buffer
  /** The manifest as in its source. */
  readonly pinNote: string | undefined
}

export interface ResolveOptions {
  readonly source: ImageSource
  readonly blobs: BlobStore
  readonly ingest: IngestArea
  readonly hostPlatform: Platform
  readonly platform: Platform | undefined
  readonly limits: DocumentLimits
  readonly signal?: AbortSignal | undefined
}

/** Asks a source for its name, follows indexes to the manifest of the platform, and stores the documents. @throws PLATFORM_NOT_FOUND, DOCUMENT_INVALID, DOCUMENT_TOO_LARGE, and the errors of the source */
export async function resolveImage(options: ResolveOptions): Promise<ResolvedImage> {
  const { source, blobs, ingest, limits, signal } = options
  const first = await source.resolve(signal)
  const attempted = `get manifest ${first.digest} of ${source.name}`
  checkDocumentSize(attempted, first.bytes.length, limitOf('manifest', limits))
  const search = findManifest(first, { ...options, name: source.name, lookups: { left: MAX_LOOKUPS } })
  let step = search.next()
  // Only manifests and indexes are stored, and the content shows whether it is one.
  blobs.put(first.digest, first.bytes, ingest)
  while (step.done !== true) {
    const { kind, descriptor } = step.value
    const bytes = await getDocument(source, descriptor, { kind, limits, signal })
    step = search.next(bytes)
    blobs.put(descriptor.digest, bytes, ingest)
  }
  if (step.value !== undefined) return { targetDigest: first.digest, pinNote: first.pinNote, ...step.value }
  const index = parseManifestDocument(first.bytes, first.mediaType, attempted)
  throw noPlatform(source.name, index, options)
}

/**
 * Does the same with the documents of the store. Returns the digest of the manifest; undefined if
 * a document on the way is missing or the index has nothing for the platform.
 */
export function resolveStored(
  target: Digest,
  options: Pick<ResolveOptions, 'blobs' | 'platform' | 'hostPlatform'>,
): Digest | undefined {
  const { blobs } = options
  const bytes = blobs.find(target, 'manifest')
  if (bytes === undefined) return undefined
  const first = { bytes, digest: target, mediaType: undefined }
  const search = findManifest(first, { ...options, name: target, lookups: { left: MAX_LOOKUPS } })
  let step = search.next()
  while (step.done !== true) {
    const { kind, descriptor } = step.value
    step = search.next(blobs.find(descriptor.digest, kind))
  }
  return step.value?.digest
}

interface Lookup {
  readonly kind: DocumentKind
  readonly descriptor: Descriptor
}

interface SearchOptions extends Pick<ResolveOptions, 'platform' | 'hostPlatform'> {
  /** For messages. */
  readonly name: string
  readonly depth?: number
  readonly lookups: { left: number }
}

type FoundManifest = Omit<ResolvedImage, 'targetDigest' | 'pinNote'>

/**
 * Searches the manifest for a platform, depth first. Yields each document that it needs, and gets its bytes, or undefined if
 * they are missing. Returns undefined if there is nothing for the platform.
 */
function* findManifest(
  document: SourceDocument,
  options: SearchOptions,
): Generator<Lookup, FoundManifest | undefined, Buffer | undefined> {
  const { name, depth = 0 } = options
  const { bytes, digest } = document
  const mediaType = document.mediaType === '' ? undefined : document.mediaType
  const parsed = parseManifestDocument(bytes, mediaType, `manifest ${digest}`)
  if (parsed.kind === 'manifest') return { digest, manifest: parsed, manifestBytes: bytes }
  if (depth === MAX_INDEX_DEPTH)
    throw new LoamError('DOCUMENT_INVALID', `resolve ${name}: more than ${MAX_INDEX_DEPTH} nested indexes`)
  const wanted = options.platform ?? options.hostPlatform
  for (const { entry, isSure } of rankEntries(parsed.manifests, wanted)) {
    const entryBytes = yield* lookUp({ kind: 'manifest', descriptor: entry }, options)
    if (entryBytes === undefined) {
      if (isSure) return undefined
      continue
    }
    const inner = { bytes: entryBytes, digest: entry.digest, mediaType: entry.mediaType }
    const found = yield* findInEntry(inner, isSure, { ...options, depth: depth + 1 })
    if (found !== undefined) return found
  }
  return undefined
}

/** If the index does not say which platform an entry is for, its config has to, and the entry may be something other than an image. */
function* findInEntry(
  document: SourceDocument,
  isSure: boolean,
  options: SearchOptions,
): Generator<Lookup, FoundManifest | undefined, Buffer | undefined> {
  if (isSure) return yield* findManifest(document, options)
  try {
    const found = yield* findManifest(document, options)
    if (found === undefined) return undefined
    const bytes = yield* lookUp({ kind: 'config', descriptor: found.manifest.config }, options)
    if (bytes === undefined) return undefined
    const config = parseImageConfig(bytes, `config ${found.manifest.config.digest}`)
    return isFor(config, options.platform ?? options.hostPlatform) ? found : undefined
  } catch (error) {
    if (isLoamError(error, 'MEDIA_TYPE_UNSUPPORTED')) return undefined
    throw error
  }
}

function* lookUp(
  lookup: Lookup,
  { name, lookups }: SearchOptions,
): Generator<Lookup, Buffer | undefined, Buffer | undefined> {
  if (lookups.left === 0) {
    throw new LoamError(
      'DOCUMENT_INVALID',
      `resolve ${name}: more than ${MAX_LOOKUPS} entries of its index have no platform`,
    )
  }
  lookups.left -= 1
  return yield lookup
}

/** Returns the needed documents and, for those that are indexes, all indexes nested in them. */
export async function withNestedIndexes(
  digests: ReadonlySet<Digest>,
  blobs: BlobStore,
): Promise<Set<Digest>> {
  const slice = new TimeSlice()
  const needed = new Set<Digest>()
  let level = [...digests]
  for (let depth = 0; depth <= MAX_INDEX_DEPTH; depth += 1) {
    for (const digest of level) needed.add(digest)
    const below: Digest[] = []
    for (const digest of level) {
      await slice.rest()
      below.push(...nestedIndexes(digest, blobs))
    }
    level = below.filter((digest) => !needed.has(digest))
  }
  return needed
}

function nestedIndexes(digest: Digest, blobs: BlobStore): Digest[] {
  const bytes = blobs.find(digest, 'manifest')
  const document = bytes === undefined ? undefined : parseIfManifest(bytes)
  if (document?.kind !== 'index') return []
  return document.manifests.filter(({ mediaType }) => mayBeIndex(mediaType)).map((entry) => entry.digest)
}

/** Configs are stored among the documents, too. */
function parseIfManifest(bytes: Buffer): ImageManifest | ImageIndex | undefined {
  try {
    return parseManifestDocument(bytes, undefined, 'document')
  } catch (error) {
    if (isLoamError(error)) return undefined
    throw error
  }
}

/** Gets a document and verifies it against its descriptor. @throws SIZE_MISMATCH, DIGEST_MISMATCH, DOCUMENT_TOO_LARGE */
export async function getDocument(
  source: ImageSource,
  descriptor: Descriptor,
  {
    kind,
    limits,
    signal,
  }: {
    readonly kind: DocumentKind
    readonly limits: DocumentLimits
    readonly signal?: AbortSignal | undefined
  },
): Promise<Buffer> {
  const { digest, sizeBytes } = descriptor
  const attempted = `get ${kind} ${digest} of ${source.name}`
  checkDocumentSize(attempted, sizeBytes, limitOf(kind, limits))
  const bytes = await source.getDocument(descriptor, limitOf(kind, limits), signal)
  if (bytes.length !== sizeBytes) {
    throw new LoamError('SIZE_MISMATCH', `${attempted}: expected ${sizeBytes} bytes, got ${bytes.length}`)
  }
  const actual = digestOf(bytes, splitDigest(digest).algorithm)
  if (actual !== digest) throw new LoamError('DIGEST_MISMATCH', `${attempted}: its digest is ${actual}`)
  return bytes
}

function noPlatform(name: string, document: ImageManifest | ImageIndex, options: ResolveOptions): LoamError {
  const wanted = formatPlatform(options.platform ?? options.hostPlatform)
  const has = document.kind === 'index' ? describeEntries(document) : 'one image'
  return new LoamError('PLATFORM_NOT_FOUND', `resolve ${name}: no image for ${wanted}`, {
    hint: `It has: ${has}. Choose one with --platform.`,
  })
}
