import { Readable } from 'node:stream'
import { LoamError } from '../errors/index.ts'
import {
  type ArchiveFormat,
  counting,
  type ImageSink,
  type SinkManifest,
  verified,
} from '../exports/index.ts'
import {
  describeBytes,
  type Digest,
  formatManifest,
  MEDIA_TYPES,
  nameOfDigest,
  parseManifestDocument,
  shortenNames,
} from '../image/index.ts'
import { streamStored } from '../linux/index.ts'
import type { StoredImage } from '../stores/index.ts'
import { type ImageFileOptions, withArchive } from './copy-image.ts'
import { findOriginal } from './original-image.ts'
import type { PushEvent } from './push-image.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'
import { typeOf } from './source-opener.ts'
import { nameForOthers } from './stored-name.ts'

/** The formats of a file with images. */
export const SAVE_FORMATS = ['docker-archive', 'oci-archive'] as const

/** Options of a file with images of the store. */
export interface SaveImagesOptions extends ImageOptions, ImageFileOptions {
  /** `docker-archive` (default): for docker, podman and Loam; it also contains an OCI layout. `oci-archive`: an OCI layout alone. */
  readonly format?: ArchiveFormat | undefined
  /** Called for each blob. It must not throw. */
  readonly onSave?: ((event: PushEvent) => void) | undefined
}

/** An image in a file. */
export interface SavedImage {
  /** Its name in the file; undefined for none. */
  readonly name: string | undefined
  /** Digest of its manifest in the file. */
  readonly digest: Digest
  /** Digest of its manifest in the store. It differs if the layers are in the store uncompressed only. */
  readonly storedDigest: Digest
}

type SaveServices = Pick<ImageServices, 'sources' | 'stores' | 'layers' | 'retained' | 'cwd'>

/**
 * Writes images of the store to one file; images that are not there are pulled first. Layers keep their blobs where these were retained, and are plain tars
 * otherwise; configs, and with them IDs, stay. @throws the errors of `pull`, OUTPUT_EXISTS, OUTPUT_CLOSED, USAGE
 */
export async function saveImages(
  services: SaveServices,
  images: readonly string[],
  output: string,
  options: SaveImagesOptions,
): Promise<SavedImage[]> {
  if (images.length === 0) throw new LoamError('USAGE', 'save: no image is named')
  const { format = 'docker-archive', force, mode, signal } = options
  return withArchive(output, { cwd: services.cwd, format, force, mode, signal }, async (sink) => {
    const written: WrittenImage[] = []
    for (const image of images) written.push(await writeImage(services, image, sink, options))
    return nameImages(written, sink, options)
  })
}

/** An image whose blobs are in the file. */
interface WrittenImage {
  readonly manifest: SinkManifest
  /** The name that the user gave, with the digest that it states; undefined for none. */
  readonly given: string | undefined
  readonly storedDigest: Digest
}

/** Gives the images their names in the file, once all are known: a name that loses its digest may be another image's. */
async function nameImages(
  written: readonly WrittenImage[],
  sink: ImageSink,
  { onEvent }: SaveImagesOptions,
): Promise<SavedImage[]> {
  const claims = written.flatMap(({ manifest, given: name }) =>
    name === undefined ? [] : [{ owner: manifest.digest, name }],
  )
  const names = shortenNames(claims, ({ owner, name }) => nameOfDigest(name, owner))
  const saved: SavedImage[] = []
  for (const { manifest, given, storedDigest } of written) {
    const { digest } = manifest
    const name = names[claims.findIndex((claim) => claim.owner === digest && claim.name === given)]
    await sink.putImage(manifest, name === undefined ? [] : [name])
    if (name === undefined && given !== undefined && nameOfDigest(given, digest) !== undefined)
      onEvent?.({
        kind: 'note',
        text: `${given} has no name in the file: without its digest, several images would have the same`,
      })
    saved.push({ name, digest, storedDigest })
  }
  return saved
}

async function writeImage(
  services: SaveServices,
  image: string,
  sink: ImageSink,
  options: SaveImagesOptions,
): Promise<WrittenImage> {
  const { sources, stores, layers } = services
  const { name } = sources.find(image, { ...options, mayBeGone: true })
  return sources.with(name, options, async (source) => {
    using stored = await stores[typeOf(name)].get(source, { ...options, cached: source.isRemote })
    using original = await findOriginal(services, stored, options.signal, { isForLayout: false })
    await layers.complete(
      stored.layers.map(({ diffId }) => diffId),
      options.signal,
    )
    const files =
      original === undefined
        ? new Map<Digest, string>(stored.layers.map(({ diffId }) => [diffId, layers.tarPath(diffId)]))
        : new Map(original.blobs.map(({ digest, path }) => [digest, path]))
    const manifest = original?.manifest ?? plainManifest(stored)
    await putBlobs(manifest, { files, config: stored.configBytes, sink, onSave: options.onSave })
    return { manifest, given: nameForOthers(source), storedDigest: stored.record.digest }
  })
}

/** Describes an image whose layers are plain tars: the digest of each is its diffID. */
function plainManifest({ configBytes, layers }: StoredImage): SinkManifest {
  const mediaType = MEDIA_TYPES.ociManifest
  const bytes = formatManifest({
    mediaType,
    config: describeBytes(MEDIA_TYPES.ociConfig, configBytes),
    layers: layers.map(({ diffId, tarBytes }) => ({
      mediaType: MEDIA_TYPES.ociLayer,
      digest: diffId,
      sizeBytes: tarBytes,
    })),
  })
  return { ...describeBytes(mediaType, bytes), bytes }
}

async function putBlobs(
  { bytes, mediaType, digest }: SinkManifest,
  {
    files,
    config,
    sink,
    onSave,
  }: Readonly<{
    files: ReadonlyMap<Digest, string>
    config: Buffer
    sink: ImageSink
    onSave: SaveImagesOptions['onSave']
  }>,
): Promise<void> {
  const manifest = parseManifestDocument(bytes, mediaType, `manifest ${digest}`)
  if (manifest.kind !== 'manifest') throw new LoamError('DOCUMENT_INVALID', `save ${digest}: it is an index`)
  const blobs = [manifest.config, ...manifest.layers]
  onSave?.({
    kind: 'blobs',
    blobs: blobs.map((blob) => ({ digest: blob.digest, totalBytes: blob.sizeBytes })),
  })
  for (const blob of blobs) {
    const { digest: own, sizeBytes: totalBytes } = blob
    const found = await sink.findBlob(blob)
    const path = files.get(own)
    const open = () => {
      let sentBytes = 0
      const report = (doneBytes: number) => {
        sentBytes += doneBytes
        onSave?.({ kind: 'sending', digest: own, sentBytes, totalBytes })
      }
      report(0)
      return counting(
        verified(path === undefined ? Readable.from([config]) : streamStored(path), blob),
        report,
      )
    }
    if (found === undefined) await sink.putBlob(blob, open)
    onSave?.({ kind: 'blob', digest: own, route: found ?? 'copied' })
  }
}
