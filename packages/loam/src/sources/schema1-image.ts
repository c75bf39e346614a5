import {
  configOfV1,
  type Descriptor,
  type DiffId,
  type Digest,
  parseSchema1,
  type ImageReference,
  MEDIA_TYPES,
} from '../image/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { type InflateOptions, storeBlob } from './blob-file.ts'
import type { ConvertedImage, ConvertedLayer } from './converted.ts'

/**
 * Converts a schema 1 manifest into an image. It has neither sizes nor diffIDs of layers, so that each layer is fetched into a file
 * first. @throws DOCUMENT_INVALID, and the errors of a fetch
 */
export async function convertSchema1(
  manifest: Buffer,
  what: string,
  from: {
    readonly reference: ImageReference
    readonly client: RegistryClient
    readonly newPath: () => string
    readonly limits: InflateOptions['limits']
    readonly signal: AbortSignal | undefined
  },
): Promise<ConvertedImage> {
  const { top, layers } = parseSchema1(manifest, what)
  const known = new Map<Digest, ConvertedLayer & { readonly diffId: DiffId }>()
  for (const digest of new Set(layers)) {
    const unknownSize: Descriptor = { mediaType: MEDIA_TYPES.dockerLayerGzip, digest, sizeBytes: -1 }
    const blob = from.client.streamBlob(from.reference, unknownSize, from.signal)
    const stored = await storeBlob(blob, digest, from.newPath(), from)
    const descriptor = { ...unknownSize, sizeBytes: stored.sizeBytes }
    known.set(digest, { descriptor, diffId: stored.diffId, open: stored.open })
  }
  const found = layers.flatMap((digest) => known.get(digest) ?? [])
  return {
    config: configOfV1(
      top,
      found.map(({ diffId }) => diffId),
    ),
    layers: found,
  }
}
