import { constants, statSync, writeFileSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { SequentialWriter } from '../content/index.ts'
import { LoamError, toLoamError } from '../errors/index.ts'
import {
  type Descriptor,
  describeBytes,
  type DiffId,
  type Digest,
  type DigestAlgorithm,
  digestOf,
  formatConfig,
  formatIndex,
  formatManifest,
  listReferences,
  MEDIA_TYPES,
  nameOfDigest,
  parseImageConfig,
  parseStrictJson,
  splitDigest,
} from '../image/index.ts'
import { HeldDirectory, showHeld, streamStored } from '../linux/index.ts'
import { counting, verified } from './blob-streams.ts'
import { LAYOUT_VERSION, REF_NAME, writeImageArchive } from './image-archive.ts'
import type { SinkManifest } from './image-sink.ts'

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
  readonly manifest: SinkManifest
  /** The digest of its config, as the manifest has it. */
  readonly configDigest: Digest
  /** Files of the layers' blobs, whose digests are verified. */
  readonly blobs: readonly { readonly digest: Digest; readonly path: string }[]
}

export interface LayoutLayer {
  readonly diffId: DiffId
  readonly tarPath: string
}

/** How the blobs of a layout are written. */
export interface LayoutOptions {
  /** Copies a file in a thread, and verifies it. @throws LAYER_DAMAGED */
  readonly copy: (
    path: string,
    target: string,
    options: { readonly digest: Digest; readonly onBytes: (doneBytes: number) => void },
  ) => Promise<void>
  readonly onBytes?: ((doneBytes: number, totalBytes: number) => void) | undefined
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
  options: LayoutOptions,
): Promise<void> {
  using layout = new NewLayout(folder)
  try {
    await fillLayout(layout, image, layers, options)
  } catch (error) {
    throw layout.show(toLoamError(error, `write ${folder}`))
  }
}

async function fillLayout(
  layout: NewLayout,
  image: LayoutImage,
  layers: readonly LayoutLayer[],
  { copy, onBytes }: LayoutOptions,
): Promise<void> {
  using content = await contentOf(image, layers)
  const { manifest, config, files } = content
  const totalBytes = bytesOf(files)
  let doneBytes = 0
  for (const { digest, sizeBytes, path } of files) {
    const target = layout.newBlob(digest)
    const before = doneBytes
    const report = (bytes: number) => onBytes?.(before + bytes, totalBytes)
    // The same layer may come twice.
    if (target !== undefined && !(await share(path, target)))
      await copy(path, target, { digest, onBytes: report })
    report(sizeBytes)
    doneBytes += sizeBytes
  }
  for (const { digest, bytes } of [config, manifest]) {
    const target = layout.newBlob(digest)
    if (target !== undefined) writeNew(target, bytes)
  }
  const name = nameOf(image, manifest)
  const annotations = name === undefined ? {} : { [REF_NAME]: name }
  const manifests = [{ ...describeBytes(manifest.mediaType, manifest.bytes, manifest.digest), annotations }]
  writeNew(layout.at('index.json'), formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests }))
  writeNew(layout.at('oci-layout'), LAYOUT_VERSION)
}

function writeNew(path: string, content: Buffer | string): void {
  writeFileSync(path, content, { flag: 'wx', mode: 0o600 })
}

/** The directories of a layout that is written, by their descriptors: a container may put symlinks in their places. */
class NewLayout implements Disposable {
  readonly #held = new DisposableStack()
  readonly #folder: HeldDirectory
  readonly #blobs: HeldDirectory
  readonly #algorithms = new Map<string, HeldDirectory>()
  readonly #digests = new Set<Digest>()

  constructor(path: string) {
    using parent = HeldDirectory.open(dirname(path))
    this.#folder = this.#held.use(parent.make(basename(path)))
    this.#blobs = this.#held.use(this.#folder.make('blobs'))
  }

  at(name: string): string {
    return this.#folder.at(name)
  }

  /** Returns an error with the names of directories. */
  show(error: LoamError): LoamError {
    return showHeld(error, [this.#folder, this.#blobs, ...this.#algorithms.values()])
  }

  /** Returns the path of a file to create; undefined for one that was asked for before. */
  newBlob(digest: Digest): string | undefined {
    if (this.#digests.has(digest)) return undefined
    this.#digests.add(digest)
    const { algorithm, hex } = splitDigest(digest)
    const folder = this.#algorithms.get(algorithm) ?? this.#held.use(this.#blobs.make(algorithm))
    this.#algorithms.set(algorithm, folder)
    return folder.at(hex)
  }

  [Symbol.dispose](): void {
    this.#held.dispose()
  }
}

/** Writes the same layout as one tar to a descriptor. Blobs are verified on the way. @throws DIGEST_MISMATCH, OUTPUT_CLOSED, CANCELED */
export async function writeOciArchive(
  target: number,
  image: LayoutImage,
  layers: readonly LayoutLayer[],
  { signal, onBytes }: Pick<LayoutOptions, 'onBytes'> & { readonly signal: AbortSignal | undefined },
): Promise<void> {
  using content = await contentOf(image, layers)
  const { manifest, config, files } = content
  const totalBytes = bytesOf(files)
  let doneBytes = 0
  const openFile = (path: string) => new SequentialWriter(path)
  await writeImageArchive('oci-archive', { target, openFile, signal }, async (sink) => {
    for (const file of files) {
      if ((await sink.findBlob(file)) !== undefined) continue
      await sink.putBlob(file, () =>
        counting(verified(streamStored(file.path), file), (bytes) => {
          doneBytes += bytes
          onBytes?.(doneBytes, totalBytes)
        }),
      )
    }
    await sink.putManifest(config)
    const name = nameOf(image, manifest)
    await sink.putImage(manifest, name === undefined ? [] : [name])
  })
}

function nameOf({ name }: LayoutImage, { digest }: SinkManifest): string | undefined {
  return name === undefined ? undefined : nameOfDigest(name, digest)
}

interface LayoutContent extends Disposable {
  readonly manifest: SinkManifest
  readonly config: SinkManifest
  readonly files: readonly (Descriptor & { readonly path: string })[]
}

async function contentOf(image: LayoutImage, layers: readonly LayoutLayer[]): Promise<LayoutContent> {
  using held = new DisposableStack()
  const original = held.use(await image.findOriginal?.())
  const content = original === undefined ? plainContent(image, layers) : originalContent(image, original)
  checkComplete(content)
  const kept = held.move()
  return { ...content, [Symbol.dispose]: () => kept.dispose() }
}

/** Refuses a layout whose manifest would refer to a blob that is not in it. */
function checkComplete({ manifest, config, files }: Omit<LayoutContent, typeof Symbol.dispose>): void {
  const written = new Set([config, ...files].map(({ digest }) => digest))
  const what = `manifest ${manifest.digest}`
  const lost = listReferences(manifest.bytes, what).blobs.find(({ digest }) => !written.has(digest))
  if (lost !== undefined)
    throw new LoamError(
      'INTERNAL',
      `write an OCI layout: its ${what} refers to ${lost.digest}, which is not in it`,
    )
}

function originalContent(
  image: LayoutImage,
  { manifest, configDigest, blobs }: OriginalImage,
): Omit<LayoutContent, typeof Symbol.dispose> {
  const { algorithm } = splitDigest(configDigest)
  return {
    manifest,
    config: documentOf(MEDIA_TYPES.ociConfig, image.readConfig(), algorithm),
    files: blobs.map(({ digest, path }) => ({
      mediaType: '',
      digest,
      sizeBytes: statSync(path).size,
      path,
    })),
  }
}

function plainContent(
  image: LayoutImage,
  layers: readonly LayoutLayer[],
): Omit<LayoutContent, typeof Symbol.dispose> {
  const config = documentOf(MEDIA_TYPES.ociConfig, withLayers(image.readConfig(), layers))
  const files = layers.map(({ diffId: digest, tarPath: path }) => ({
    mediaType: MEDIA_TYPES.ociLayer,
    digest,
    sizeBytes: statSync(path).size,
    path,
  }))
  const manifest = formatManifest({
    mediaType: MEDIA_TYPES.ociManifest,
    config: describeBytes(config.mediaType, config.bytes),
    layers: files.map(({ mediaType, digest, sizeBytes }) => ({ mediaType, digest, sizeBytes })),
  })
  return { manifest: documentOf(MEDIA_TYPES.ociManifest, manifest), config, files }
}

function documentOf(mediaType: string, bytes: Buffer, algorithm?: DigestAlgorithm): SinkManifest {
  return { digest: digestOf(bytes, algorithm), mediaType, bytes }
}

function bytesOf(files: readonly Descriptor[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}

/** Makes a copy that shares the data of a file. Returns false where the file system cannot do that. */
async function share(path: string, target: string): Promise<boolean> {
  try {
    await copyFile(path, target, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL)
    return true
  } catch {
    // The error of the copy that follows says what is wrong, if anything is.
    return false
  }
}

/** The config stays unchanged to the byte if it names these layers; otherwise it gets the one layer that replaces them all. */
function withLayers(config: Buffer, layers: readonly LayoutLayer[]): Buffer {
  const diffIds = layers.map(({ diffId }) => diffId)
  if (isDeepStrictEqual(parseImageConfig(config, 'config').diffIds, diffIds)) return config
  const history = diffIds.map(() => ({ created_by: 'loam export' }))
  return formatConfig(parseStrictJson(config, 'config') as object, diffIds, history)
}
