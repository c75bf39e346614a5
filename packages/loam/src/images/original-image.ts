import type { OriginalImage } from '../exports/index.ts'
import { MEDIA_TYPES } from '../image/index.ts'
import type { StoredImage } from '../stores/index.ts'
import type { ImageServices } from './services.ts'

/** Finds an image as its registry has it, if all of its compressed blobs were retained and are sound. The caller holds leases on its layers, and disposes the result. */
export async function findOriginal(
  { layers, retained }: Pick<ImageServices, 'layers' | 'retained'>,
  { manifest, record }: Pick<StoredImage, 'manifest' | 'record'>,
  signal: AbortSignal | undefined,
): Promise<OriginalImage | undefined> {
  // A layout has manifests of OCI only.
  if (record.mediaType !== MEDIA_TYPES.ociManifest) return undefined
  using stack = new DisposableStack()
  const blobs: { digest: OriginalImage['blobs'][number]['digest']; path: string }[] = []
  for (const { diffId, blobDigest: digest, blobBytes } of record.layers) {
    if (digest === diffId) {
      blobs.push({ digest, path: layers.tarPath(diffId) })
      continue
    }
    // A pull that meets a full disk may remove it between here and the copy.
    const held = retained.hold(digest, blobBytes)
    if (held === undefined) return undefined
    const { path } = stack.use(held)
    if (!(await layers.trees.hasDigest(path, digest, signal))) return undefined
    blobs.push({ digest, path })
  }
  const owned = stack.move()
  return { mediaType: record.mediaType, manifest, blobs, [Symbol.dispose]: () => owned.dispose() }
}
