import { LoamError } from '../errors/index.ts'
import { parseManifestDocument, type StoredReference } from '../image/index.ts'
import { type ImageAddress, type ImageSource, renamedSource } from '../sources/index.ts'
import { describePulled } from './image-list.ts'
import type { ImageOptions, NamingOptions } from './requests.ts'
import type { PulledImage } from './results.ts'
import type { ImageServices } from './services.ts'
import { formatAnyName } from './source-opener.ts'
import { untagImage } from './tag-image.ts'

/** An image that was loaded from a file. */
export interface LoadedImage extends Omit<PulledImage, 'name'> {
  /** The names that the file gives it; empty for an image without one. */
  readonly names: readonly string[]
}

type LoadServices = Pick<ImageServices, 'sources' | 'stores' | 'metadata'>

/**
 * Imports all images of a file into the store, under the names that they have in it. An image without a name is kept by its digest alone, until it gets a name
 * or `prune` removes it. @throws as `put`
 */
export async function loadImages(
  services: LoadServices,
  address: ImageAddress,
  options: ImageOptions & NamingOptions,
): Promise<LoadedImage[]> {
  return services.sources.withAll(address, options, async (images) => {
    const loaded: LoadedImage[] = []
    for (const { names, open } of images) {
      const source = await open()
      const all = names.length > 0 ? names : await claimedNames(source, options)
      loaded.push(await loadOne(services, source, all, options))
    }
    if (loaded.length === 0) throw new LoamError('SOURCE_INVALID', 'load: the file contains no image')
    return loaded
  })
}

/** The names of an archive of before Docker 1.10 are known once it was read. */
async function claimedNames(source: ImageSource, { signal }: ImageOptions): Promise<readonly string[]> {
  await source.resolve(signal)
  return source.aliases
}

async function loadOne(
  services: LoadServices,
  source: ImageSource,
  names: readonly string[],
  options: ImageOptions & NamingOptions,
): Promise<LoadedImage> {
  if (names.length === 0) return loadUnnamed(services, source, options)
  let last: PulledImage | undefined
  for (const name of names) last = await getAs(services, source, name, options)
  if (last === undefined) throw new LoamError('INTERNAL', `load ${source.name}: it has no names`)
  return { names, digest: last.digest, image: last.image }
}

/** The store takes images by a name only, which is removed again. */
async function loadUnnamed(
  services: LoadServices,
  source: ImageSource,
  options: ImageOptions & NamingOptions,
): Promise<LoadedImage> {
  const { digest } = await source.resolve(options.signal)
  const name = `localhost/loaded:${digest.replace(/^.*:/, '').slice(0, 40)}`
  const { image, digest: own } = await getAs(services, source, name, options)
  await untagImage(services, name, options)
  return { names: [], digest: own, image }
}

async function getAs(
  { sources, stores }: LoadServices,
  source: ImageSource,
  name: string,
  options: ImageOptions & NamingOptions,
): Promise<PulledImage> {
  const known = sources.parse(`docker://${name}`, { ...options, imageType: undefined }).name
  const present = await findPresent(stores, source, { ...options, name: formatAnyName(known) })
  if (present !== undefined) return present
  // Only the names in the file are kept, and not the file's own.
  const renamed = renamedSource({ ...source, aliases: [] }, known, {
    mayReplace: options.replace,
    isCopy: true,
  })
  using stored = await stores.docker.get(renamed, { ...options, cached: false, sync: true })
  return describePulled(renamed, stored)
}

/** An image is the same with compressed and with plain layers: its config names the layers. As in docker, loading it again changes nothing. */
async function findPresent(
  stores: ImageServices['stores'],
  source: ImageSource,
  { name, platform, signal }: ImageOptions & { readonly name: StoredReference },
): Promise<PulledImage | undefined> {
  const present = stores.docker.findTarget(name, platform)
  if (present === undefined) return undefined
  const { bytes, mediaType, digest } = await source.resolve(signal)
  const document = parseManifestDocument(bytes, mediaType, `manifest ${digest}`)
  const isSame = document.kind === 'manifest' && document.config.digest === present.record.configDigest
  return isSame ? { name, digest: present.targetDigest, image: present.record } : undefined
}
