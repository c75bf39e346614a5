import { LoamError } from '../errors/index.ts'
import type { ImageReference } from '../image/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import { type ImageSource, registrySource } from '../sources/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { type IndexedImage, indexImage, type IndexServices, type IndexSubject } from './index-image.ts'
import type { PushedImage } from './push-image.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'
import { typeOf } from './source-opener.ts'

/** Where to put the lazy indexes of an image. */
export interface IndexImageOptions extends ImageOptions {
  /** Push them to the repository of the image's name. */
  readonly push?: boolean | undefined
  /** An absolute path of a directory for them, as `lazy_index_dir`. */
  readonly output?: string | undefined
}

type Services = IndexServices & Pick<ImageServices, 'sources' | 'stores' | 'blobs'>

/** Makes the lazy indexes of an image, which need not be in the store. @throws USAGE if they would be kept nowhere, and as `indexImage` */
export async function indexByName(
  services: Services,
  image: string,
  { push = false, output, ...options }: IndexImageOptions,
): Promise<IndexedImage> {
  const { sources, stores, layers } = services
  const { name } = sources.find(image, options)
  return sources.with(name, options, async (source) => {
    const record = await stores[typeOf(name)].describe(source, { ...options, cached: true })
    const directories = directoriesOf(services, output)
    const to = push ? source.lazyArtifacts : undefined
    if (push && to === undefined)
      throw new LoamError('USAGE', `index ${image}: its source is not a registry, and cannot have indexes`)
    const isHere = record.layers.some(({ diffId }) => layers.find(diffId) !== undefined)
    if (!isHere && directories.length === 0 && to === undefined)
      throw new LoamError(
        'USAGE',
        `index ${image}: the store does not have its layers, and so would not keep indexes`,
        {
          hint: 'Pull it first, push the indexes (--push), or name a directory for them (--output DIR).',
        },
      )
    return indexImage(services, subjectOf(services, record, source), { directories, push: to }, options)
  })
}

/** Makes the lazy indexes of an image that was pushed, and pushes them beside it. @throws as `indexImage` */
export async function indexPushed(
  services: Services,
  { record, pushed }: { readonly record: ImageRecord; readonly pushed: PushedImage },
  to: { readonly client: RegistryClient; readonly reference: ImageReference },
  options: ImageOptions,
): Promise<IndexedImage> {
  const newPath = () => {
    throw new LoamError('INTERNAL', `index ${record.digest}: a pushed image is not converted`)
  }
  const sourceOf = (digest: ImageReference['digest']) =>
    registrySource({ ...to.reference, tag: undefined, digest }, to.client, newPath)
  const isSame = pushed.layers.every(({ digest }, index) => digest === record.layers[index]?.blobDigest)
  const source = sourceOf(isSame ? record.digest : pushed.digest)
  const subject = isSame
    ? subjectOf(services, record, source)
    : await subjectThere(record, pushed, source, options)
  const targets = { directories: directoriesOf(services, undefined), push: source.lazyArtifacts }
  return indexImage(services, subject, targets, options)
}

/** Layers that were compressed again are other blobs. */
async function subjectThere(
  record: ImageRecord,
  { digest, layers }: PushedImage,
  source: ImageSource,
  { signal }: ImageOptions,
): Promise<IndexSubject> {
  const { bytes } = await source.resolve(signal)
  return {
    manifest: { mediaType: record.mediaType, digest, sizeBytes: bytes.length },
    layers: record.layers.map((layer, index) => {
      const {
        digest: blobDigest,
        mediaType: blobMediaType,
        sizeBytes: blobBytes,
      } = layers[index] ?? {
        digest: layer.blobDigest,
        mediaType: layer.blobMediaType,
        sizeBytes: layer.blobBytes,
      }
      return { diffId: layer.diffId, blobDigest, blobMediaType, blobBytes }
    }),
    source,
  }
}

/** Describes an image whose manifest is in the store. */
export function subjectOf(
  { blobs }: Pick<ImageServices, 'blobs'>,
  { digest, mediaType, layers }: ImageRecord,
  source: ImageSource,
): IndexSubject {
  const { length: sizeBytes } = blobs.get(digest, 'manifest')
  return { manifest: { mediaType, digest, sizeBytes }, layers, source }
}

function directoriesOf(
  { configuration }: Pick<ImageServices, 'configuration'>,
  output: string | undefined,
): string[] {
  return [...new Set([configuration.values.lazy_index_dir, output].flatMap((path) => path ?? []))]
}
