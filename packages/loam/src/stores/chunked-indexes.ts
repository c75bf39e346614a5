import { type Digest, parseManifestDocument } from '../image/index.ts'
import type { LayerStore, TrustedIndex } from '../layers/index.ts'
import type { ImageLayerRecord, ImageRecord } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { toWanted } from './image-record.ts'

/** Who vouches for the index that a blob has in itself. */
export const TRUSTED_BY_MANIFEST = 'the manifest of the image (zstd:chunked)'

/** Annotations of the layers of an image, by the digests of their blobs. */
export type LayerAnnotations = ReadonlyMap<Digest, Readonly<Record<string, string>>>

/** Reads the annotations of layers in a manifest. */
export function annotationsOf(manifest: Buffer, { mediaType, digest }: ImageRecord): LayerAnnotations {
  const document = parseManifestDocument(manifest, mediaType, `manifest ${digest}`)
  if (document.kind !== 'manifest') return new Map()
  return new Map(document.layers.map((layer) => [layer.digest, layer.annotations ?? {}]))
}

/**
 * Returns the lazy index that a zstd:chunked blob has in its own tables. The manifest of the image vouches for it: it is trusted as the image is. Undefined for another
 * blob.
 */
export function chunkedIndex(
  layers: LayerStore,
  source: ImageSource,
  layer: ImageLayerRecord,
  {
    annotations,
    signal,
  }: { readonly annotations: LayerAnnotations; readonly signal: AbortSignal | undefined },
): TrustedIndex | undefined {
  const own = annotations.get(layer.blobDigest) ?? {}
  if (!source.isRemote || !layers.indexes.hasChunked(own, layer.blobBytes)) return undefined
  return {
    indexDigest: undefined,
    trustedBy: TRUSTED_BY_MANIFEST,
    bytes: async () => layers.indexes.makeChunked(toWanted(layer, source), own, signal),
    profile: undefined,
    reference: source.name,
    blobMediaType: layer.blobMediaType,
  }
}
