/*
 * OCI artifacts as images: a model, a chart or any other files, in blobs that are not layers. Each file has the name of its blob, as ORAS, podman and the image
 * volumes of Kubernetes name it; a directory that ORAS has packed is unpacked.
 */
import { createHash } from 'node:crypto'
import { LoamError } from '../errors/index.ts'
import {
  type Descriptor,
  type DiffId,
  finishDigest,
  formatConfig,
  type ImageReference,
  isConfigType,
  isLayerType,
  listReferences,
  MEDIA_TYPES,
  parseDiffId,
  splitDigest,
  startDigest,
} from '../image/index.ts'
import { SequentialWriter } from '../content/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { overLimit } from '../tree/index.ts'
import { formatTarHeader, tarEnd, tarPadding } from '../tar/index.ts'
import { type InflateOptions, storeBlob, streamFile } from './blob-file.ts'
import type { ConvertedImage, ConvertedLayer } from './converted.ts'

/** Annotations of blobs: names of files (OCI, and the model specification of the CNCF), and whether ORAS has packed a directory. */
const NAMES = ['org.opencontainers.image.title', 'org.cncf.model.filepath'] as const
const UNPACK = 'io.deis.oras.content.unpack'
const MAX_FILES = 1000

export interface ArtifactOrigin {
  readonly reference: ImageReference
  readonly client: RegistryClient
  readonly newPath: () => string
  readonly limits: InflateOptions['limits']
  readonly signal: AbortSignal | undefined
}

/**
 * Returns the blobs of the files of an artifact; undefined for an image, and for an artifact without files. With the config of an image it is an artifact only if
 * each blob has a name and one is not a layer: an image with a layer of an unknown type is not shown as files. @throws DOCUMENT_INVALID
 */
export function filesOfArtifact(manifest: Buffer, what: string): readonly Descriptor[] | undefined {
  const { manifests, blobs } = listReferences(manifest, what)
  const [config, ...files] = blobs
  if (config === undefined || manifests.length > 0 || files.length === 0) return undefined
  const areLayers = files.every(({ mediaType }) => mediaType === '' || isLayerType(mediaType))
  const haveNames = files.every((file) => givenName(file) !== undefined)
  const isImage = isConfigType(config.mediaType) && (areLayers || !haveNames)
  return isImage ? undefined : files
}

/**
 * Converts an artifact into an image with a layer for each file. The diffIDs are known once the files are fetched, so that each is fetched into a file first.
 * @throws DOCUMENT_INVALID for names that cannot be files, and the errors of a fetch
 */
export async function convertArtifact(
  files: readonly Descriptor[],
  what: string,
  origin: ArtifactOrigin,
): Promise<ConvertedImage> {
  if (files.length > MAX_FILES)
    throw new LoamError('DOCUMENT_INVALID', `read ${what}: it has more than ${MAX_FILES} files`)
  const named = files.map((file) => ({ file, name: nameOf(file, what) }))
  const layers: (ConvertedLayer & { readonly diffId: DiffId })[] = []
  for (const { file, name } of named) {
    const isPacked = file.annotations?.[UNPACK] === 'true'
    layers.push(isPacked ? await fetchDirectory(file, origin) : await fetchFile(file, name, origin))
  }
  // No platform: files are for any.
  const config = formatConfig(
    {},
    layers.map(({ diffId }) => diffId),
  )
  return { config, layers, annotations: {} }
}

/** Returns the path of a file. @throws DOCUMENT_INVALID for a path that leads out of the volume, and for the name of a whiteout */
function nameOf(file: Descriptor, what: string): string {
  const name = givenName(file) ?? file.digest.replace(':', '-')
  const parts = name.split('/')
  const isFile = parts.every(
    (part) => part !== '' && part !== '.' && part !== '..' && !part.startsWith('.wh.'),
  )
  if (isFile && !name.includes('\0')) return name
  throw new LoamError(
    'DOCUMENT_INVALID',
    `read ${what}: ${JSON.stringify(name.slice(0, 200))} is not the relative path of a file`,
  )
}

function givenName({ annotations = {} }: Descriptor): string | undefined {
  return NAMES.map((name) => annotations[name]).find((name) => name !== undefined && name !== '')
}

/** The directory is the first name in its tar. */
async function fetchDirectory(
  blob: Descriptor,
  { reference, client, newPath, limits, signal }: ArtifactOrigin,
): Promise<ConvertedLayer & { readonly diffId: DiffId }> {
  const stream = client.streamBlob(reference, blob, signal)
  const { diffId, open } = await storeBlob(stream, blob.digest, newPath(), { limits, signal })
  const descriptor = { mediaType: MEDIA_TYPES.ociLayerGzip, digest: blob.digest, sizeBytes: blob.sizeBytes }
  return { descriptor, diffId, open }
}

/** Writes a tar with one file. @throws SIZE_MISMATCH, DIGEST_MISMATCH, LAYER_LIMIT */
async function fetchFile(
  blob: Descriptor,
  name: string,
  { reference, client, newPath, limits, signal }: ArtifactOrigin,
): Promise<ConvertedLayer & { readonly diffId: DiffId }> {
  if (limits !== undefined && blob.sizeBytes > limits.tarBytes)
    throw overLimit(`read blob ${blob.digest}`, 'tarBytes', limits.tarBytes)
  const path = newPath()
  const hash = createHash('sha256')
  const blobHash = startDigest(blob.digest)
  let sizeBytes = 0
  let received = 0
  {
    await using writer = new SequentialWriter(path)
    const write = async (bytes: Buffer) => {
      hash.update(bytes)
      sizeBytes += bytes.length
      await writer.write(bytes)
    }
    await write(
      formatTarHeader({ name: Buffer.from(name), type: 'file', sizeBytes: blob.sizeBytes, mode: 0o644 }),
    )
    for await (const chunk of client.streamBlob(reference, blob, signal)) {
      received += chunk.length
      if (received > blob.sizeBytes) break
      blobHash.update(chunk)
      await write(chunk)
    }
    await write(tarPadding(blob.sizeBytes))
    await write(tarEnd())
    await writer.flush()
  }
  if (received !== blob.sizeBytes) {
    const got = received > blob.sizeBytes ? 'more' : received
    throw new LoamError(
      'SIZE_MISMATCH',
      `verify blob ${blob.digest}: expected ${blob.sizeBytes} bytes, got ${got}`,
    )
  }
  const actual = finishDigest(splitDigest(blob.digest).algorithm, blobHash)
  if (actual !== blob.digest)
    throw new LoamError('DIGEST_MISMATCH', `verify blob ${blob.digest}: its digest is ${actual}`)
  const diffId = parseDiffId(`sha256:${hash.digest('hex')}`)
  const descriptor = { mediaType: MEDIA_TYPES.ociLayer, digest: diffId, sizeBytes }
  return {
    descriptor,
    diffId,
    open: ({ offset, signal: given }) => streamFile(path, given, { start: offset }),
  }
}
