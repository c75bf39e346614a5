import { constants, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import {
  type DiffId,
  digestOf,
  type Digest,
  MEDIA_TYPES,
  parseImageConfig,
  parseStrictJson,
  splitDigest,
} from '../image/index.ts'

const LAYER_TYPE = 'application/vnd.oci.image.layer.v1.tar'

/** What an image says of itself. */
export interface LayoutImage {
  /** Returns its config, JSON. Called when it is needed: not all that is exported has to have a sound one. */
  readonly readConfig: () => Buffer
  /** Name in the layout's index; undefined for none. */
  readonly name: string | undefined
}

export interface LayoutLayer {
  readonly diffId: DiffId
  readonly tarPath: string
}

/**
 * Writes an OCI image layout (OCI image-spec image-layout.md) to a folder that does not exist. Layers are not compressed: a tar's digest is
 * its diffID, so that the config, and with it the image's id, stays as it is. Where the file system shares data, layers take no space. The
 * caller waits for the disk.
 */
export async function writeOciLayout(
  folder: string,
  image: LayoutImage,
  layers: readonly LayoutLayer[],
): Promise<void> {
  mkdirSync(join(folder, 'blobs'), { recursive: true })
  const config = withLayers(image.readConfig(), layers)
  const blobs: BlobDescriptor[] = []
  // One after the other: each is a layer.
  for (const layer of layers) blobs.push(await putFile(folder, layer))
  const manifest = toJson({
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: putBytes(folder, MEDIA_TYPES.ociConfig, config),
    layers: blobs,
  })
  const described = putBytes(folder, MEDIA_TYPES.ociManifest, manifest)
  const annotations = image.name === undefined ? {} : { 'org.opencontainers.image.ref.name': image.name }
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: [{ ...described, annotations }],
  }
  writeFileSync(join(folder, 'index.json'), toJson(index))
  writeFileSync(join(folder, 'oci-layout'), toJson({ imageLayoutVersion: '1.0.0' }))
}

/** The config stays to the byte where it names these layers; else it is told of the one layer that stands for all. */
function withLayers(config: Buffer, layers: readonly LayoutLayer[]): Buffer {
  const diffIds = layers.map(({ diffId }) => diffId)
  if (isDeepStrictEqual(parseImageConfig(config, 'config').diffIds, diffIds)) return config
  return toJson({
    ...(parseStrictJson(config, 'config') as object),
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: diffIds.map(() => ({ created_by: 'loam export' })),
  })
}

interface BlobDescriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

function putBytes(folder: string, mediaType: string, bytes: Buffer): BlobDescriptor {
  const digest = digestOf(bytes)
  writeFileSync(blobPath(folder, digest), bytes)
  return { mediaType, digest, size: bytes.length }
}

async function putFile(folder: string, { diffId, tarPath }: LayoutLayer): Promise<BlobDescriptor> {
  await copyFile(tarPath, blobPath(folder, diffId), constants.COPYFILE_FICLONE)
  return { mediaType: LAYER_TYPE, digest: diffId, size: statSync(tarPath).size }
}

function blobPath(folder: string, digest: Digest): string {
  const { algorithm, hex } = splitDigest(digest)
  mkdirSync(join(folder, 'blobs', algorithm), { recursive: true })
  return join(folder, 'blobs', algorithm, hex)
}

function toJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
