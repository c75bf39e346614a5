import { LoamError } from '../errors/index.ts'
import type { ImageType } from '../metadata/index.ts'
import { formatImageName, type ImageName, renamedSource } from '../sources/index.ts'
import { checkAllowed } from './check-allowed.ts'
import { findTarget } from './image-list.ts'
import type { ImageOptions, NamingOptions } from './requests.ts'
import type { PulledImage, UntaggedName } from './results.ts'
import type { ImageServices } from './services.ts'
import { formatAnyName, typeOf } from './source-opener.ts'
import type { StoredName } from './stored-name.ts'

type TagServices = Pick<ImageServices, 'metadata' | 'blobs' | 'stores' | 'sources' | 'hasPolicy'>

const TYPES: Readonly<Record<ImageType, string>> = { docker: 'a Docker image', appc: 'an Appc image' }

/**
 * Gives an image of the store one more name. The signature policy judges the image by the name that it was found by, by the new name, and by all
 * locations that its content came from; the new name keeps these. @throws IMAGE_NOT_FOUND, NAME_TAKEN, DIGEST_MISMATCH, POLICY_REFUSED, USAGE
 */
export async function tagImage(
  services: TagServices,
  text: string,
  name: string,
  options: ImageOptions & NamingOptions,
): Promise<PulledImage> {
  const { sources, stores } = services
  const { record, targetDigest } = findTarget(services, text, { ...options, attempted: 'tag' })
  const { type, digest } = record
  await checkAllowed(services, text, { digest, options })
  const known = newName(services, name, { ...options, imageType: type })
  const found = sources.find(text, options).name
  const stored: StoredName = {
    transport: 'store',
    type,
    digest,
    targetDigest,
    reference: formatAnyName(found),
    asked: { locations: sources.locationsOf(digest, formatAnyName(found)), pin: undefined },
    pin: undefined,
  }
  return sources.with(stored, options, async (source) => {
    const renamed = renamedSource(source, known, { mayReplace: options.replace, isCopy: true })
    const image = await stores[type].tag(renamed, options.signal)
    return { name: renamed.name, digest: targetDigest, image }
  })
}

/** Removes a name and no image. @throws IMAGE_NOT_FOUND */
export async function untagImage(
  { sources, metadata }: Pick<TagServices, 'sources' | 'metadata'>,
  text: string,
  options: ImageOptions,
): Promise<UntaggedName> {
  const name = sources.nameInStore(text, options)
  const images = await metadata.images.removeName(name)
  if (images.length > 0) return { name, images }
  throw new LoamError('IMAGE_NOT_FOUND', `untag ${text}: no image has this name`, {
    hint: '`loam images` lists the names of the images in the store.',
  })
}

/** Reads a name that an image may be given: one of a registry or of Appc. @throws REFERENCE_INVALID, USAGE */
function newName(
  { sources }: Pick<TagServices, 'sources'>,
  text: string,
  options: ImageOptions & { readonly imageType: ImageType },
): ImageName {
  const { name } = sources.parse(text, options)
  if (name.transport !== 'docker' && name.transport !== 'appc') {
    throw new LoamError('USAGE', `tag: ${text} names a file or directory`, {
      hint: 'Give a name of a registry, for example registry.lan/app:1. `loam export` writes a file.',
    })
  }
  if (typeOf(name) === options.imageType) return name
  const what = `${formatImageName(name)} is a name of ${TYPES[typeOf(name)]}`
  throw new LoamError('USAGE', `tag: ${what}, and this is ${TYPES[options.imageType]}`)
}
