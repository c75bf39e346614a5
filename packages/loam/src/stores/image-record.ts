import { LoamError } from '../errors/index.ts'
import {
  chainIds,
  formatPlatform,
  type ImageConfig,
  isFor,
  isForeign,
  isForeignLayerType,
  listReferences,
  normalizePlatform,
  type Platform,
  splitTransport,
} from '../image/index.ts'
import type { WantedLayer } from '../layers/index.ts'
import type { ImageRecord, MetadataStore } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { type ImageLimits, overLimit } from '../tree/index.ts'
import type { ResolvedImage } from './resolve.ts'

/** Refuses an image that Loam cannot store, before any layer is fetched. @throws LAYER_LIMIT, PLATFORM_NOT_FOUND */
export function checkImage(
  source: ImageSource,
  { config, platform, limits }: { config: ImageConfig; platform: Platform | undefined; limits: ImageLimits },
  { manifest }: ResolvedImage,
): void {
  if (manifest.layers.length > limits.layers) {
    throw overLimit(`pull ${source.name}: it has ${manifest.layers.length} layers`, 'layers', limits.layers)
  }
  const bytes = manifest.layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  if (bytes > limits.bytes)
    throw overLimit(`pull ${source.name}: it has ${bytes} bytes`, 'bytes', limits.bytes)
  if (platform !== undefined && !isFor(config, platform)) {
    throw new LoamError(
      'PLATFORM_NOT_FOUND',
      `pull ${source.name}: its platform is ${formatPlatform(config.platform)}, expected ${formatPlatform(platform)}`,
    )
  }
}

/** Creates the row of an image. */
export function createRecord(
  resolved: ResolvedImage,
  config: ImageConfig,
  hostPlatform: Platform,
): Omit<ImageRecord, 'type' | 'isLocal'> {
  const { manifest, manifestBytes, digest } = resolved
  const nowMs = Date.now()
  const { os, architecture } = config.platform
  // Some tools leave the platform empty; such an image runs where it is pulled.
  const platform =
    os === '' || architecture === ''
      ? { os: hostPlatform.os, architecture: hostPlatform.architecture }
      : config.platform
  const layerBytes = manifest.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0)
  return {
    digest,
    mediaType: manifest.mediaType,
    configDigest: manifest.config.digest,
    chainId: chainIds(config.diffIds).at(-1),
    platform: formatPlatform(normalizePlatform(platform)),
    sizeBytes: layerBytes + manifestBytes.length + manifest.config.sizeBytes,
    created: config.created,
    pulledAtMs: nowMs,
    usedAtMs: nowMs,
    layers: manifest.layers.flatMap((layer, index) => {
      const diffId = config.diffIds[index]
      return diffId === undefined
        ? []
        : [
            {
              diffId,
              blobDigest: layer.digest,
              blobMediaType: layer.mediaType,
              blobBytes: layer.sizeBytes,
              ...(isForeign(layer) ? { blobUrls: layer.urls } : {}),
            },
          ]
    }),
  }
}

/**
 * Returns an image of the store with the addresses of layers that must not be distributed, which only its manifest has. A file may name
 * any host, so that they count only if a registry has this manifest.
 */
export function withAddresses(
  image: ImageRecord,
  manifest: Buffer,
  { origins }: Pick<MetadataStore, 'origins'>,
): ImageRecord {
  if (!image.layers.some(({ blobMediaType }) => isForeignLayerType(blobMediaType))) return image
  const isInRegistry = origins
    .list(image.digest)
    .some((origin) => splitTransport(origin, 'file') === undefined)
  if (!isInRegistry) return image
  const { blobs } = listReferences(manifest, `manifest ${image.digest}`)
  const urlsOf = new Map(blobs.map((blob) => [blob.digest, isForeign(blob) ? blob.urls : undefined]))
  const layers = image.layers.map((layer) => ({ ...layer, blobUrls: urlsOf.get(layer.blobDigest) }))
  return { ...image, layers }
}

/** Describes a layer to fetch and its source. */
export function toWanted(layer: ImageRecord['layers'][number], source: ImageSource): WantedLayer {
  const descriptor = {
    mediaType: layer.blobMediaType,
    digest: layer.blobDigest,
    sizeBytes: layer.blobBytes,
    urls: layer.blobUrls,
  }
  return {
    diffId: layer.diffId,
    blob: descriptor,
    open: (options) => source.openBlob(descriptor, options),
    isResumable: source.isResumable ?? false,
    keepOpen: source.keepOpen,
    isRemote: source.isRemote,
  }
}
