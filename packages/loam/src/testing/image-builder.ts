import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import {
  type Digest,
  digestOf,
  MEDIA_TYPES,
  splitDigest,
  type Descriptor,
  describeBytes,
  formatConfig,
  formatIndex,
  formatManifest,
  layerType,
  parseDiffId,
} from '../image/index.ts'
import { formatTarHeader, type TarEntryInput, tarEnd, tarPadding } from '../tar/index.ts'

/** One entry of a layer to build. Names and link targets are UTF-8 text or bytes. */
export type BuildEntry = Omit<TarEntryInput, 'name' | 'linkName' | 'xattrs' | 'type'> & {
  readonly name: string | Buffer
  readonly type?: TarEntryInput['type']
  readonly linkName?: string | Buffer
  readonly data?: string | Buffer
  readonly xattrs?: Readonly<Record<string, string | Buffer>>
}

export type BuildCompression = 'none' | 'gzip' | 'zstd'

/** A blob by its digest. */
export interface BuiltBlob {
  readonly digest: Digest
  readonly bytes: Buffer
}

/** An image for one platform, with all its blobs. */
export interface BuiltImage {
  readonly manifest: BuiltBlob
  readonly mediaType: string
  readonly config: BuiltBlob
  /** Blobs as they are transferred; base first. */
  readonly layers: readonly BuiltBlob[]
  readonly diffIds: readonly Digest[]
}

/** Builds the tar of a layer. */
export function buildTar(entries: readonly BuildEntry[]): Buffer {
  const parts = entries.flatMap((entry) => {
    const data = Buffer.from(entry.data ?? '')
    const type = entry.type ?? (toBytes(entry.name).at(-1) === 47 ? 'directory' : 'file')
    const header = formatTarHeader({
      mode: type === 'directory' ? 0o755 : 0o644,
      ...entry,
      type,
      name: toBytes(entry.name),
      linkName: toBytes(entry.linkName ?? ''),
      sizeBytes: entry.sizeBytes ?? data.length,
      xattrs: Object.entries(entry.xattrs ?? {}).map(([name, value]) => ({
        name: Buffer.from(name),
        value: Buffer.from(value),
      })),
    })
    return [header, data, tarPadding(data.length)]
  })
  return Buffer.concat([...parts, tarEnd()])
}

function toBytes(text: string | Buffer): Buffer {
  return typeof text === 'string' ? Buffer.from(text) : text
}

export interface BuildImageOptions {
  /** Tars of the layers, base first. */
  readonly tars: readonly Buffer[]
  readonly compression?: BuildCompression
  /** The `config` object of the image config. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly platform?: {
    readonly os: string
    readonly architecture: string
    readonly variant?: string
  }
  /** One line of history for each layer, or these ones. */
  readonly withHistory?: boolean | readonly object[]
  /** Docker's media types instead of OCI's. */
  readonly isDocker?: boolean
}

/** Creates an image from layers and a config. */
export function buildImage(options: BuildImageOptions): BuiltImage {
  const {
    tars,
    compression = 'gzip',
    platform = { os: 'linux', architecture: 'amd64' },
    isDocker = false,
  } = options
  const diffIds = tars.map((tar) => parseDiffId(digestOf(tar)))
  const layers = tars.map((tar) => blob(pack(tar, compression)))
  const { withHistory = false } = options
  const own = tars.map((_tar, index) => ({ created_by: `layer ${index}` }))
  const history = withHistory === true ? own : withHistory === false ? undefined : withHistory
  const fields = { ...platform, config: options.config ?? {} }
  const config = blob(formatConfig(fields, diffIds, history))
  const mediaType = isDocker ? MEDIA_TYPES.dockerManifest : MEDIA_TYPES.ociManifest
  const manifest = blob(
    formatManifest({
      mediaType,
      config: describe(isDocker ? MEDIA_TYPES.dockerConfig : MEDIA_TYPES.ociConfig, config),
      layers: layers.map((layer) => describe(layerType(isDocker ? 'docker' : 'oci', compression), layer)),
    }),
  )
  return { manifest, mediaType, config, layers, diffIds }
}

/** Builds an index of images. */
export function buildMetaImage(
  images: readonly {
    readonly image: BuiltImage
    readonly platform: { os: string; architecture: string; variant?: string }
  }[],
): { readonly blob: BuiltBlob; readonly mediaType: string } {
  const manifests = images.map(({ image, platform }) => ({
    ...describe(image.mediaType, image.manifest),
    platform,
  }))
  return {
    blob: blob(formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests })),
    mediaType: MEDIA_TYPES.ociIndex,
  }
}

/** Writes images as an OCI layout; the keys are tags. */
export function writeOciLayout(folder: string, images: Readonly<Record<string, BuiltImage>>): void {
  mkdirSync(join(folder, 'blobs/sha256'), { recursive: true })
  writeFileSync(join(folder, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }))
  const manifests = Object.entries(images).map(([tag, image]) => {
    for (const { digest, bytes } of [image.manifest, image.config, ...image.layers]) {
      const { algorithm, hex } = splitDigest(digest)
      writeFileSync(join(folder, 'blobs', algorithm, hex), bytes)
    }
    return {
      ...describe(image.mediaType, image.manifest),
      annotations: { 'org.opencontainers.image.ref.name': tag },
    }
  })
  writeFileSync(join(folder, 'index.json'), formatIndex({ manifests }))
}

/** Builds a `docker save` archive of one image. */
export function buildDockerArchive(
  image: BuiltImage,
  tars: readonly Buffer[],
  tags: readonly string[],
): Buffer {
  const configName = `${splitDigest(image.config.digest).hex}.json`
  const layerNames = tars.map(
    (_tar, index) => `${splitDigest(image.diffIds[index] ?? image.config.digest).hex}/layer.tar`,
  )
  return buildTar([
    ...tars.map((tar, index) => ({ name: layerNames[index] ?? '', data: tar })),
    { name: configName, data: image.config.bytes },
    {
      name: 'manifest.json',
      data: json([{ Config: configName, RepoTags: tags, Layers: layerNames }]),
    },
  ])
}

function pack(tar: Buffer, compression: BuildCompression): Buffer {
  if (compression === 'none') return tar
  return compression === 'gzip' ? gzipSync(tar, { level: 1 }) : zstdCompressSync(tar)
}

function describe(mediaType: string, { digest, bytes }: BuiltBlob): Descriptor {
  return describeBytes(mediaType, bytes, digest)
}

/** Returns the descriptor of bytes. */
export function blob(bytes: Buffer): BuiltBlob {
  return { digest: digestOf(bytes), bytes }
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
