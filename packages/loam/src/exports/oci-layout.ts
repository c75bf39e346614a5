import { constants, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import {
  type Descriptor,
  describeBytes,
  type DiffId,
  type Digest,
  formatConfig,
  formatIndex,
  formatManifest,
  MEDIA_TYPES,
  parseImageConfig,
  parseStrictJson,
  splitDigest,
} from '../image/index.ts'

/** The annotation that names an image in a layout's index. */
const REF_NAME = 'org.opencontainers.image.ref.name'
const LAYOUT_VERSION = JSON.stringify({ imageLayoutVersion: '1.0.0' })

/** The metadata of an exported image. */
export interface LayoutImage {
  /** Returns its config, JSON. Called only if it is needed: not every exported image has a valid config. */
  readonly readConfig: () => Buffer
  /** Name in the layout's index; undefined for none. */
  readonly name: string | undefined
  /** Finds the manifest and all blobs as the image's registry has them. Undefined if not all of them are in the store. */
  readonly findOriginal?: (() => Promise<OriginalImage | undefined>) | undefined
}

/** An image as its registry has it, whose files are held until it is disposed. */
export interface OriginalImage extends Disposable {
  readonly mediaType: string
  readonly manifest: Buffer
  /** Files of the layers' blobs, whose digests are verified. */
  readonly blobs: readonly { readonly digest: Digest; readonly path: string }[]
}

export interface LayoutLayer {
  readonly diffId: DiffId
  readonly tarPath: string
}

/**
 * Writes an OCI image layout (OCI image-spec image-layout.md) to a folder that does not exist. Layers are not compressed: a tar's digest is
 * its diffID, so that the config, and with it the image's id, stays as it is. With all original blobs the manifest stays as it is, too. Where the file
 * system shares data, layers take no space. The caller waits for the disk.
 */
export async function writeOciLayout(
  folder: string,
  image: LayoutImage,
  layers: readonly LayoutLayer[],
): Promise<void> {
  mkdirSync(join(folder, 'blobs'), { recursive: true })
  using original = await image.findOriginal?.()
  const described =
    original === undefined
      ? await putImage(folder, image, layers)
      : await putOriginal(folder, image, original)
  const annotations = image.name === undefined ? {} : { [REF_NAME]: image.name }
  const index = formatIndex({
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: [{ ...described, annotations }],
  })
  writeFileSync(join(folder, 'index.json'), index)
  writeFileSync(join(folder, 'oci-layout'), LAYOUT_VERSION)
}

async function putOriginal(
  folder: string,
  image: LayoutImage,
  { mediaType, manifest, blobs }: OriginalImage,
): Promise<Descriptor> {
  putBytes(folder, MEDIA_TYPES.ociConfig, image.readConfig())
  for (const { digest, path } of blobs)
    await copyFile(path, blobPath(folder, digest), constants.COPYFILE_FICLONE)
  return putBytes(folder, mediaType, manifest)
}

async function putImage(
  folder: string,
  image: LayoutImage,
  layers: readonly LayoutLayer[],
): Promise<Descriptor> {
  const config = withLayers(image.readConfig(), layers)
  const blobs: Descriptor[] = []
  // One after the other: each is a layer.
  for (const layer of layers) blobs.push(await putFile(folder, layer))
  const manifest = formatManifest({
    mediaType: MEDIA_TYPES.ociManifest,
    config: putBytes(folder, MEDIA_TYPES.ociConfig, config),
    layers: blobs,
  })
  return putBytes(folder, MEDIA_TYPES.ociManifest, manifest)
}

/** The config stays unchanged to the byte if it names these layers; otherwise it gets the one layer that replaces them all. */
function withLayers(config: Buffer, layers: readonly LayoutLayer[]): Buffer {
  const diffIds = layers.map(({ diffId }) => diffId)
  if (isDeepStrictEqual(parseImageConfig(config, 'config').diffIds, diffIds)) return config
  const history = diffIds.map(() => ({ created_by: 'loam export' }))
  return formatConfig(parseStrictJson(config, 'config') as object, diffIds, history)
}

function putBytes(folder: string, mediaType: string, bytes: Buffer): Descriptor {
  const descriptor = describeBytes(mediaType, bytes)
  writeFileSync(blobPath(folder, descriptor.digest), bytes)
  return descriptor
}

async function putFile(folder: string, { diffId, tarPath }: LayoutLayer): Promise<Descriptor> {
  await copyFile(tarPath, blobPath(folder, diffId), constants.COPYFILE_FICLONE)
  return { mediaType: MEDIA_TYPES.ociLayer, digest: diffId, sizeBytes: statSync(tarPath).size }
}

function blobPath(folder: string, digest: Digest): string {
  const { algorithm, hex } = splitDigest(digest)
  mkdirSync(join(folder, 'blobs', algorithm), { recursive: true })
  return join(folder, 'blobs', algorithm, hex)
}
