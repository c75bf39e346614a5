import { blobPath, type StorePaths } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { type Digest, parseManifestDocument } from '../image/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import type { ProvisionedRootfs } from '../provisioner/index.ts'
import { type ImageSource, readAppcParts } from '../sources/index.ts'
import type { StoredImage } from '../stores/index.ts'
import type { Parts } from './parts.ts'
import type { ImageOptions } from './requests.ts'
import type { Inspection, ListedImage, ProvisionedImage, PulledImage } from './results.ts'
import { typeOf } from './source-opener.ts'

const MAX_DOCUMENT_BYTES = 8 << 20

type ListParts = Pick<Parts, 'metadata' | 'blobs' | 'stores' | 'sources'>

/** Lists the images in the store with their names. */
export function listImages({ metadata }: Pick<Parts, 'metadata'>): ListedImage[] {
  const names = metadata.images.listNames()
  return metadata.images.list().map((image) => ({
    ...image,
    names: names.filter(({ imageDigest }) => imageDigest === image.digest).map(({ reference }) => reference),
  }))
}

/** Finds an image by name or digest. @throws IMAGE_NOT_FOUND */
export function inspectImage(parts: ListParts, text: string, options: ImageOptions): Inspection {
  const record = findImage(parts, text, options)
  if (record === undefined) {
    throw new LoamError(
      'IMAGE_NOT_FOUND',
      `inspect ${text}: there is no image and no container of that name`,
      {
        hint: '`loam images` and `loam ps` list what there is.',
      },
    )
  }
  const bytesOf = (digest: Digest) => parts.blobs.find(digest, MAX_DOCUMENT_BYTES)
  const document = (digest: Digest): unknown => parseJson(bytesOf(digest)?.toString('utf8'))
  const image = listImages(parts).find(({ digest }) => digest === record.digest) ?? { ...record, names: [] }
  const manifest = bytesOf(record.digest)
  return {
    kind: 'image',
    image,
    manifest: document(record.digest),
    config: document(record.configDigest),
    decisions: parts.metadata.decisions.list(record.digest),
    ...(manifest === undefined || record.type !== 'appc' ? {} : { appcManifest: appcManifestOf(manifest) }),
  }
}

/** Finds an image by the start of its digest, or by its name. @throws IMAGE_NOT_FOUND when several begin so */
function findImage(
  { metadata, stores, sources }: ListParts,
  text: string,
  options: ImageOptions,
): ImageRecord | undefined {
  const byDigest = isDigestLike(text) ? metadata.images.findByDigestPrefix(text) : []
  if (byDigest.length > 1) {
    throw new LoamError('IMAGE_NOT_FOUND', `find image ${text}: ${byDigest.length} images begin so`, {
      hint: byDigest.map(({ digest }) => digest).join(', '),
    })
  }
  if (byDigest[0] !== undefined) return byDigest[0]
  const { name } = sources.parse(text, options)
  return stores[typeOf(name)].findByName(sources.nameInStore(text, options), options.platform)
}

/** Takes a name away, and the image with its last one. @throws IMAGE_NOT_FOUND, IMAGE_IN_USE */
export function removeImage(parts: ListParts, text: string, options: ImageOptions): Digest | undefined {
  const { images, containers } = parts.metadata
  const record = findImage(parts, text, options)
  if (record === undefined) {
    throw new LoamError('IMAGE_NOT_FOUND', `remove ${text}: there is no such image`, {
      hint: '`loam images` lists what there is.',
    })
  }
  const names = listImages(parts).find(({ digest }) => digest === record.digest)?.names ?? []
  const name = isDigestLike(text) ? undefined : parts.sources.nameInStore(text, options)
  const rest = name === undefined ? [] : names.filter((other) => other !== name)
  if (name !== undefined && rest.length > 0) {
    images.removeName(name)
    return undefined
  }
  const users = containers.usersOfImage(record.digest)
  if (users.length > 0) {
    throw new LoamError(
      'IMAGE_IN_USE',
      `remove ${text}: containers use it (${users.slice(0, 5).join(', ')})`,
      {
        hint: `Destroy them first: loam destroy ${users[0] ?? ''}`,
      },
    )
  }
  images.remove(record.digest)
  return record.digest
}

/** Tells whether a text may be the start of an image's digest. */
function isDigestLike(text: string): boolean {
  return /^(?:sha256:)?[0-9a-f]{6,64}$/.test(text)
}

export function describePulled(source: ImageSource, image: StoredImage): PulledImage {
  return { name: source.name, digest: image.targetDigest, image: image.record }
}

/** What a framework is told of a root filesystem and its image. */
export function describeProvisioned(
  paths: StorePaths,
  rootfs: ProvisionedRootfs,
  source: ImageSource,
  image: StoredImage,
): ProvisionedImage {
  const { type, configDigest } = image.record
  const config = image.configBytes.toString('utf8')
  return {
    ...rootfs,
    image: {
      ...describePulled(source, image),
      manifest: image.manifest.toString('utf8'),
      config,
      configPath: blobPath(paths, configDigest),
      dockerManifest: type === 'docker' ? parseJson(config) : undefined,
      appcManifest: type === 'appc' ? appcManifestOf(image.manifest) : undefined,
    },
  }
}

function appcManifestOf(manifest: Buffer): unknown {
  const document = parseManifestDocument(manifest, undefined, 'manifest')
  const parts = document.kind === 'manifest' ? readAppcParts(document.annotations) : []
  return parseJson(parts.at(-1)?.manifest)
}

function parseJson(text: string | undefined): unknown {
  return text === undefined ? undefined : JSON.parse(text)
}
