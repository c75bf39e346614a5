import type { OriginalImage } from '../exports/index.ts'
import { MEDIA_TYPES } from '../image/index.ts'
import type { StoredImage } from '../stores/index.ts'
import type { ImageServices } from './services.ts'

const PLAIN_MANIFESTS: readonly string[] = [MEDIA_TYPES.ociManifest, MEDIA_TYPES.dockerManifest]

/**
 * Finds an image as its registry has it, if all of its compressed blobs were retained and are sound. The caller holds leases on its layers, and disposes
 * the result. `isForLayout`: only an image with a manifest of OCI.
 */
export async function findOriginal(
  { layers, retained }: Pick<ImageServices, 'layers' | 'retained'>,
  { manifest, record }: Pick<StoredImage, 'manifest' | 'record'>,
  signal: AbortSignal | undefined,
  { isForLayout = true } = {},
): Promise<OriginalImage | undefined> {
  if (isForLayout && record.mediaType !== MEDIA_TYPES.ociManifest) return undefined
  // What was converted on import has no blobs of these digests anywhere.
  if (!PLAIN_MANIFESTS.includes(record.mediaType)) return undefined
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
  const { digest, mediaType, configDigest } = record
  return {
    manifest: { digest, mediaType, bytes: manifest },
    configDigest,
    blobs,
    [Symbol.dispose]: () => owned.dispose(),
  }
}
