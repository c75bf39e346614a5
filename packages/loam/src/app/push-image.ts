import { createReadStream, createWriteStream, rmSync, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { toLoamError } from '../errors/index.ts'
import { type Descriptor, type Digest, digestOf, type ImageReference, MEDIA_TYPES } from '../image/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import type { Parts } from './parts.ts'

const GZIP_LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip'

export interface PushOptions {
  readonly signal?: AbortSignal | undefined
  /** Told of each layer when the registry has it. */
  readonly onLayer?: ((layer: { readonly digest: Digest; readonly isNew: boolean }) => void) | undefined
}

/** What is in a registry now. */
export interface PushedImage {
  /** Digest of the manifest there. */
  readonly digest: Digest
  readonly layers: readonly Descriptor[]
}

/**
 * Uploads an image of the store. A layer that the registry has in the form in which the image came is left as it is; others are packed by
 * gzip first, because nothing that was transferred is kept. @throws REGISTRY_*, LAYER_NOT_FOUND
 */
export async function pushImage(
  parts: Pick<Parts, 'layers' | 'blobs' | 'ingest'>,
  image: ImageRecord,
  to: { readonly reference: ImageReference; readonly client: RegistryClient },
  { signal, onLayer }: PushOptions,
): Promise<PushedImage> {
  const { reference, client } = to
  const config = parts.blobs.get(image.configDigest, 'config')
  const layers: Descriptor[] = []
  for (const layer of image.layers) {
    const known = { mediaType: layer.blobMediaType, digest: layer.blobDigest, sizeBytes: layer.blobBytes }
    const isThere = await client.hasBlob(reference, layer.blobDigest, signal)
    const tarPath = parts.layers.tarPath(parts.layers.get(layer.diffId).diffId)
    const pushed = isThere ? { descriptor: known, isNew: false } : await pushLayer(parts, tarPath, to, signal)
    onLayer?.({ digest: pushed.descriptor.digest, isNew: pushed.isNew })
    layers.push(pushed.descriptor)
  }
  const described = { mediaType: MEDIA_TYPES.ociConfig, digest: image.configDigest, sizeBytes: config.length }
  if (!(await client.hasBlob(reference, image.configDigest, signal)))
    await client.putBlob(reference, described, () => Readable.from([config]), signal)
  const plain = ({ mediaType, digest, sizeBytes }: Descriptor) => ({
    mediaType: toOci(mediaType),
    digest,
    size: sizeBytes,
  })
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: plain(described),
      layers: layers.map(plain),
    }),
  )
  await client.putManifest(reference, MEDIA_TYPES.ociManifest, manifest, signal)
  return { digest: digestOf(manifest), layers }
}

async function pushLayer(
  parts: Pick<Parts, 'ingest' | 'layers'>,
  tarPath: string,
  { reference, client }: { readonly reference: ImageReference; readonly client: RegistryClient },
  signal: AbortSignal | undefined,
): Promise<{ descriptor: Descriptor; isNew: boolean }> {
  const path = parts.ingest().newPath('push')
  try {
    await pipeline(
      createReadStream(tarPath),
      createGzip(),
      createWriteStream(path, { flags: 'wx', mode: 0o600 }),
    )
    const digest = await parts.layers.hashFile(path, signal)
    const descriptor = { mediaType: GZIP_LAYER, digest, sizeBytes: statSync(path).size }
    const isNew = !(await client.hasBlob(reference, digest, signal))
    if (isNew) await client.putBlob(reference, descriptor, () => createReadStream(path), signal)
    return { descriptor, isNew }
  } catch (error) {
    throw toLoamError(error, `push layer ${tarPath}`)
  } finally {
    rmSync(path, { force: true })
  }
}

/** Docker's types of layers say the same in other words, and an OCI manifest has OCI's. */
function toOci(mediaType: string): string {
  const docker = /^application\/vnd\.docker\.image\.rootfs\.diff\.tar(\.(gzip|zstd))?$/.exec(mediaType)
  if (docker === null) return mediaType
  return `application/vnd.oci.image.layer.v1.tar${docker[2] === undefined ? '' : `+${docker[2]}`}`
}
