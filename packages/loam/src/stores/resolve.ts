import type { BlobStore, IngestArea } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import {
  type Descriptor,
  type Digest,
  digestOf,
  formatPlatform,
  type ImageIndex,
  type ImageManifest,
  parseManifestDocument,
  type Platform,
  platformDistance,
  splitDigest,
} from '../image/index.ts'
import type { ImageSource } from '../sources/index.ts'

const MAX_INDEX_DEPTH = 3

/** What a name stands for on one platform. */
export interface ResolvedImage {
  /** Digest of what the source answered with. */
  readonly targetDigest: Digest
  readonly digest: Digest
  readonly manifest: ImageManifest
  readonly manifestBytes: Buffer
}

export interface ResolveOptions {
  readonly source: ImageSource
  readonly blobs: BlobStore
  readonly ingest: IngestArea
  readonly hostPlatform: Platform
  readonly platform: Platform | undefined
  /** The most that a manifest or an index may have. */
  readonly manifestBytes: number
  readonly signal?: AbortSignal | undefined
}

/** Asks a source what its name stands for, goes through indexes to the manifest of the platform, and keeps the documents. @throws PLATFORM_NOT_FOUND, DOCUMENT_INVALID, and what the source throws */
export async function resolveImage(options: ResolveOptions): Promise<ResolvedImage> {
  const { source, blobs, ingest, signal } = options
  const first = await source.resolve(signal)
  let { bytes, digest, mediaType } = first
  for (let depth = 0; depth < MAX_INDEX_DEPTH; depth += 1) {
    const document = parseManifestDocument(
      bytes,
      mediaType === '' ? undefined : mediaType,
      `manifest ${digest}`,
    )
    blobs.put(digest, bytes, ingest)
    if (document.kind === 'manifest') {
      return { targetDigest: first.digest, digest, manifest: document, manifestBytes: bytes }
    }
    const chosen = choosePlatform(document, options)
    bytes = await getDocument(source, chosen, options.manifestBytes, signal)
    digest = chosen.digest
    mediaType = chosen.mediaType
  }
  throw new LoamError(
    'DOCUMENT_INVALID',
    `resolve ${source.name}: more than ${MAX_INDEX_DEPTH} indexes in each other`,
  )
}

/**
 * Goes the same way with the documents that the store holds. Returns the digest of the manifest, undefined when
 * something on the way is missing or the index has nothing for the platform.
 */
export function resolveStored(
  target: Digest,
  options: Pick<ResolveOptions, 'blobs' | 'platform' | 'hostPlatform' | 'manifestBytes'>,
): Digest | undefined {
  let digest = target
  for (let depth = 0; depth < MAX_INDEX_DEPTH; depth += 1) {
    const bytes = options.blobs.find(digest, options.manifestBytes)
    if (bytes === undefined) return undefined
    const document = parseManifestDocument(bytes, undefined, `manifest ${digest}`)
    if (document.kind === 'manifest') return digest
    const chosen = findPlatform(document, options)
    if (chosen === undefined) return undefined
    digest = chosen.digest
  }
  return undefined
}

/** Gets a document and holds it against its descriptor. @throws SIZE_MISMATCH, DIGEST_MISMATCH, DOCUMENT_TOO_LARGE */
export async function getDocument(
  source: ImageSource,
  descriptor: Descriptor,
  maxBytes: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const { digest, sizeBytes } = descriptor
  if (sizeBytes > maxBytes) {
    throw new LoamError(
      'DOCUMENT_TOO_LARGE',
      `get ${digest} of ${source.name}: it has ${sizeBytes} bytes, and ${maxBytes} are allowed`,
    )
  }
  const bytes = await source.getDocument(descriptor, maxBytes, signal)
  if (bytes.length !== sizeBytes) {
    throw new LoamError(
      'SIZE_MISMATCH',
      `get ${digest} of ${source.name}: expected ${sizeBytes} bytes, got ${bytes.length}`,
    )
  }
  const actual = digestOf(bytes, splitDigest(digest).algorithm)
  if (actual !== digest) {
    throw new LoamError('DIGEST_MISMATCH', `get ${digest} of ${source.name}: its digest is ${actual}`)
  }
  return bytes
}

/** Returns the entry that suits the platform best, the only one where none says what it is for. */
function findPlatform(
  index: ImageIndex,
  { platform, hostPlatform }: Pick<ResolveOptions, 'platform' | 'hostPlatform'>,
): Descriptor | undefined {
  const wanted = platform ?? hostPlatform
  const [best] = index.manifests
    .map((entry) => ({
      entry,
      distance: entry.platform === undefined ? undefined : platformDistance(wanted, entry.platform),
    }))
    .filter((candidate) => candidate.distance !== undefined)
    // Stable: of two that suit alike, the first in the index wins, as the specification says.
    .toSorted((a, b) => (a.distance ?? 0) - (b.distance ?? 0))
  if (best !== undefined) return best.entry
  const [only] = index.manifests
  return index.manifests.length === 1 && only?.platform === undefined ? only : undefined
}

function choosePlatform(index: ImageIndex, options: ResolveOptions): Descriptor {
  const found = findPlatform(index, options)
  if (found !== undefined) return found
  const wanted = options.platform ?? options.hostPlatform
  const offered = index.manifests
    .flatMap((entry) => (entry.platform === undefined ? [] : [formatPlatform(entry.platform)]))
    .filter((name) => !name.startsWith('unknown/'))
  throw new LoamError(
    'PLATFORM_NOT_FOUND',
    `resolve ${options.source.name}: it has no image for ${formatPlatform(wanted)}`,
    { hint: `It has: ${[...new Set(offered)].slice(0, 20).join(', ')} (--platform)` },
  )
}
