import type { OriginalImage } from '../exports/index.ts'
import { MEDIA_TYPES } from '../image/index.ts'
import type { ImageServices } from '../images/index.ts'
import type { StoredImage } from '../stores/index.ts'

/** Finds an image as its registry has it, if all of its compressed blobs were retained and are sound. The caller holds leases on its layers. */
export async function findOriginal(
  { layers, retained }: Pick<ImageServices, 'layers' | 'retained'>,
  { manifest, record }: Pick<StoredImage, 'manifest' | 'record'>,
  signal: AbortSignal | undefined,
): Promise<OriginalImage | undefined> {
  // A layout has manifests of OCI only.
  if (record.mediaType !== MEDIA_TYPES.ociManifest) return undefined
  const blobs: { digest: OriginalImage['blobs'][number]['digest']; path: string }[] = []
  for (const { diffId, blobDigest: digest, blobBytes } of record.layers) {
    const isTar = digest === diffId
    const path = isTar ? layers.tarPath(diffId) : retained.find(digest, blobBytes)?.path
    if (path === undefined || (!isTar && !(await layers.trees.hasDigest(path, digest, signal))))
      return undefined
    blobs.push({ digest, path })
  }
  return { mediaType: record.mediaType, manifest, blobs }
}
