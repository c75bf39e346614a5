/*
 * An image in one tar: an OCI layout (oci-archive), and with manifest.json also an archive of `docker save` (docker-archive), as Docker 25 and later write
 * both in one. Blobs stay as they are: readers of docker-archive decompress layers themselves. Nothing is kept in memory but documents.
 * Sources: OCI image-spec image-layout.md; moby's image/tarexport; containers/image's docker/internal/tarfile.
 */
import type { SequentialWriter } from '../content/index.ts'
import { throwIfAborted } from '../errors/index.ts'
import {
  type Descriptor,
  type Digest,
  formatIndex,
  MEDIA_TYPES,
  parseManifestDocument,
  shortenNames,
  splitDigest,
  withoutDigest,
} from '../image/index.ts'
import { type OutputTarget, writeWhenPossible } from '../linux/index.ts'
import { formatTarHeader, tarEnd, tarPadding } from '../tar/index.ts'
import type { ImageSink, SinkManifest } from './image-sink.ts'

/** The annotation that names an image in a layout's index: its tag. */
export const REF_NAME = 'org.opencontainers.image.ref.name'
/** The annotation that containerd, nerdctl and Docker use for the whole name. */
export const FULL_NAME = 'io.containerd.image.name'
export const LAYOUT_VERSION = JSON.stringify({ imageLayoutVersion: '1.0.0' })

/** The formats of archives. */
export type ArchiveFormat = 'oci-archive' | 'docker-archive'

/** Where an archive is written. */
export interface ArchiveOutput {
  readonly target: OutputTarget
  /** Opens the file of a target that is a path. */
  readonly openFile: (path: string) => SequentialWriter
  readonly signal: AbortSignal | undefined
}

/** Writes an archive with the images that `fill` puts into it. */
export async function writeImageArchive(
  format: ArchiveFormat,
  { target, openFile, signal }: ArchiveOutput,
  fill: (sink: ImageSink) => Promise<void>,
): Promise<void> {
  if (typeof target === 'number') {
    const archive = new ImageArchive(format, async (chunk) => writeWhenPossible(target, chunk, signal))
    await fill(archive)
    await archive.finish()
    return
  }
  await using file = openFile(target)
  const check = () => {
    throwIfAborted(signal, `write ${target}`)
  }
  const archive = new ImageArchive(format, async (chunk) => {
    check()
    await file.write(chunk)
  })
  await fill(archive)
  await archive.finish()
  await file.sync()
  check()
}

/** An image of manifest.json without its names. */
interface DockerImage {
  readonly Config: string
  readonly Layers: readonly string[]
}

class ImageArchive implements ImageSink {
  readonly isSinglePlatform: boolean
  readonly #write: (chunk: Buffer) => Promise<void>
  readonly #has = new Set<Digest>()
  /** By their text: an image may be put twice. */
  readonly #entries = new Map<string, Descriptor>()
  /** By config and layers: one entry has all names of its image. */
  readonly #docker = new Map<string, DockerImage & { readonly names: Set<string> }>()

  constructor(format: ArchiveFormat, write: (chunk: Buffer) => Promise<void>) {
    this.isSinglePlatform = format === 'docker-archive'
    this.#write = write
  }

  async findBlob({ digest }: Descriptor): Promise<'exists' | undefined> {
    return this.#has.has(digest) ? 'exists' : undefined
  }

  async putBlob({ digest, sizeBytes }: Descriptor, open: () => AsyncIterable<Buffer>): Promise<void> {
    await this.#write(formatTarHeader({ type: 'file', name: Buffer.from(blobName(digest)), sizeBytes }))
    for await (const chunk of open()) await this.#write(chunk)
    await this.#write(tarPadding(sizeBytes))
    this.#has.add(digest)
  }

  async hasManifest(digest: Digest): Promise<boolean> {
    return this.#has.has(digest)
  }

  async putManifest({ digest, bytes }: SinkManifest): Promise<void> {
    if (this.#has.has(digest)) return
    await this.#putFile(blobName(digest), bytes)
    this.#has.add(digest)
  }

  async putImage(manifest: SinkManifest, names: readonly string[]): Promise<void> {
    await this.putManifest(manifest)
    for (const entry of indexEntries(manifest, names)) this.#entries.set(JSON.stringify(entry), entry)
    if (this.isSinglePlatform) this.#addDocker(dockerImage(manifest), names)
  }

  #addDocker(image: DockerImage, names: readonly string[]): void {
    const key = JSON.stringify(image)
    const known = this.#docker.get(key)?.names ?? []
    this.#docker.set(key, { ...image, names: new Set([...known, ...names]) })
  }

  /** Returns manifest.json. Its names have no digest, and each belongs to one image. */
  #dockerEntries() {
    const claims = [...this.#docker].flatMap(([owner, { names }]) =>
      [...names].map((name) => ({ owner, name })),
    )
    const tags = shortenNames(claims, ({ name }) => (name.includes('@') ? withoutDigest(name) : name))
    const tagsOf = (owner: string) =>
      tags.filter((tag, at) => tag !== undefined && claims[at]?.owner === owner)
    return [...this.#docker].map(([owner, { Config, Layers }]) => ({
      Config,
      RepoTags: [...new Set(tagsOf(owner))],
      Layers,
    }))
  }

  /** Writes the documents that refer to the blobs. */
  async finish(): Promise<void> {
    await this.#putFile(
      'index.json',
      formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests: [...this.#entries.values()] }),
    )
    if (this.isSinglePlatform)
      await this.#putFile('manifest.json', Buffer.from(JSON.stringify(this.#dockerEntries())))
    await this.#putFile('oci-layout', Buffer.from(LAYOUT_VERSION))
    await this.#write(tarEnd())
  }

  async #putFile(name: string, bytes: Buffer): Promise<void> {
    await this.#write(formatTarHeader({ type: 'file', name: Buffer.from(name), sizeBytes: bytes.length }))
    await this.#write(bytes)
    await this.#write(tarPadding(bytes.length))
  }
}

/** Returns the entries of index.json for an image: one for each name. */
export function indexEntries(
  { digest, mediaType, bytes }: SinkManifest,
  names: readonly string[],
): Descriptor[] {
  const descriptor = { mediaType, digest, sizeBytes: bytes.length }
  if (names.length === 0) return [descriptor]
  return names.map((name) => {
    // A whole name has a registry; its tag alone is not unique among several images.
    const tag = /^[^@]+\/[^@]*:([^:/@]+)$/.exec(name)?.[1]
    const annotations = tag === undefined ? { [REF_NAME]: name } : { [FULL_NAME]: name, [REF_NAME]: tag }
    return { ...descriptor, annotations }
  })
}

function dockerImage({ bytes, mediaType, digest }: SinkManifest): DockerImage {
  const document = parseManifestDocument(bytes, mediaType, `manifest ${digest}`)
  const layers = document.kind === 'manifest' ? document.layers : []
  return {
    Config: document.kind === 'manifest' ? blobName(document.config.digest) : '',
    Layers: layers.map((layer) => blobName(layer.digest)),
  }
}

function blobName(digest: Digest): string {
  const { algorithm, hex } = splitDigest(digest)
  return `blobs/${algorithm}/${hex}`
}
