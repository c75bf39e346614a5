import { findNear, LoamError } from '../errors/index.ts'
import { type Digest, parseManifestDocument, parseStrictJson } from '../image/index.ts'
import { TimeSlice } from '../linux/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import { type ImageSource, readAppcParts } from '../sources/index.ts'
import type { StoredImage } from '../stores/index.ts'
import type { ImageServices } from './services.ts'
import type { PushedSubject } from './push-image.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageInspection, LazyInspection, ListedImage, PulledImage } from './results.ts'
import { formatAnyName, typeOf } from './source-opener.ts'
import type { AnyImageName } from './stored-name.ts'

type ListServices = Pick<ImageServices, 'metadata' | 'blobs' | 'stores' | 'sources'>

const MAX_SHOWN = 5
/** Images that are listed without a pause. */
const AT_ONCE = 32

/** Lists the images in the store with their names, and reports those whose documents cannot be read. Other work runs meanwhile. */
export async function listImages(
  services: Pick<ImageServices, 'metadata' | 'blobs'>,
): Promise<ListedImage[]> {
  const listed: ListedImage[] = []
  const slice = new TimeSlice()
  const digests = services.metadata.images.digests()
  for (let from = 0; from < digests.length; from += AT_ONCE) {
    await slice.rest()
    listed.push(...describeListed(services, digests.slice(from, from + AT_ONCE)))
  }
  return listed
}

/** Describes those of some images that are in the store, in the order of the list. */
function describeListed(
  { metadata: { images, layers }, blobs }: Pick<ImageServices, 'metadata' | 'blobs'>,
  digests: readonly Digest[],
): ListedImage[] {
  const found = images.findAll(digests)
  const names = Map.groupBy(images.namesOfAll(digests), ({ imageDigest }) => imageDigest)
  const tarBytes = layers.tarBytesOf(digests)
  return found.flatMap((image) => {
    const { digest } = image
    const damage =
      blobs.findNewProblem(digest, 'manifest') ?? blobs.findNewProblem(image.configDigest, 'config')
    // The documents go after the row.
    if (damage !== undefined && images.find(digest) === undefined) return []
    const references = names.get(digest)?.map(({ reference }) => reference) ?? []
    return [{ ...image, tarBytes: tarBytes.get(digest) ?? 0, names: references, damage }]
  })
}

/** Finds an image by name or digest, with its documents. @throws IMAGE_NOT_FOUND, DOCUMENT_DAMAGED, DOCUMENT_TOO_LARGE */
export function inspectImage(services: ListServices, text: string, options: ImageOptions): ImageInspection {
  const record = getImage(services, text, { ...options, attempted: 'inspect' })
  const { blobs, metadata } = services
  const manifest = blobs.get(record.digest, 'manifest')
  const config = blobs.get(record.configDigest, 'config')
  const leftOutXattrs = record.layers.flatMap(({ diffId }) => {
    const leftOut = services.metadata.layers.find(diffId)?.summary.leftOutXattrs
    return leftOut === undefined ? [] : [{ diffId, ...leftOut }]
  })
  const names = metadata.images.namesOf(record.digest).map(({ reference }) => reference)
  const tarBytes = metadata.layers.tarBytesOf([record.digest]).get(record.digest) ?? 0
  return {
    image: { ...record, tarBytes, names, damage: undefined },
    manifest: parseStrictJson(manifest, `manifest ${record.digest}`),
    config: parseStrictJson(config, `config ${record.configDigest}`),
    decisions: metadata.decisions.list(record.digest),
    ...inspectLazy(metadata, record),
    ...(leftOutXattrs.length === 0 ? {} : { leftOutXattrs }),
    ...(record.type === 'appc' ? { appcManifest: appcManifestOf(manifest) } : {}),
  }
}

function inspectLazy(
  { layers, lazy }: ImageServices['metadata'],
  record: ImageRecord,
): { readonly lazy?: LazyInspection } {
  const why = lazy.whyEager(record.digest)
  const pulled = record.layers.flatMap(({ diffId }) => {
    const source = layers.partialSource(diffId)
    if (source === undefined) return []
    const { indexDigest, trustedBy } = source
    const isComplete = layers.find(diffId)?.data === 'complete'
    return [{ diffId, isComplete, indexDigest, trustedBy, denied: layers.denialOf(indexDigest) }]
  })
  return why === undefined && pulled.length === 0 ? {} : { lazy: { why, layers: pulled } }
}

/** Finds an image by name or digest; `attempted` names the operation in errors. @throws IMAGE_NOT_FOUND */
export function getImage(
  services: ListServices,
  text: string,
  options: ImageOptions & { readonly attempted: string },
): ImageRecord {
  const record = findImage(services, services.sources.find(text, options).name, options)
  if (record !== undefined) return record
  throw new LoamError('IMAGE_NOT_FOUND', `${options.attempted} ${text}: no such image`, {
    hint: `${suggest(services, text)}\`loam images\` lists images, \`loam ps\` lists containers.`,
  })
}

/** Returns a question about images and containers whose names are like a word, or ''. */
function suggest({ metadata }: Pick<ImageServices, 'metadata'>, text: string): string {
  const images = metadata.images.listNames().map(({ reference }) => reference)
  const containers = metadata.containers.rootfses().map(({ containerId }) => containerId)
  const near = findNear(text, [...new Set([...images, ...containers])], spellingsOf)
  return near.length === 0 ? '' : `Did you mean ${near.join(' or ')}? `
}

/** Returns the ways to write a name without its registry, its repositories or its tag. */
function spellingsOf(name: string): string[] {
  const withoutHub = name.replace(/^docker\.io\/(?:library\/)?/, '')
  const last = name.slice(name.lastIndexOf('/') + 1)
  return [name, withoutHub, last].flatMap((each) => [each, each.replace(/:[^:/]*$/, '')])
}

/** Finds an image by its ID or its name. @throws IMAGE_NOT_FOUND for an ID that is not in the store, or that several images begin with */
function findImage(
  { metadata, stores }: ListServices,
  name: AnyImageName,
  { platform }: ImageOptions,
): ImageRecord | undefined {
  if (name.transport === 'store') return metadata.images.find(name.digest)
  return stores[typeOf(name)].findByName(formatAnyName(name), platform)
}

/** Finds an image of the store, with the digest that its name refers to, for what is `attempted` with it. @throws IMAGE_NOT_FOUND */
export function findTarget(
  services: ListServices,
  text: string,
  options: ImageOptions & { readonly attempted: string },
): PushedSubject {
  const { name } = services.sources.find(text, options)
  const found =
    name.transport === 'store'
      ? { record: services.metadata.images.find(name.digest), targetDigest: name.targetDigest }
      : services.stores[typeOf(name)].findTarget(formatAnyName(name), options.platform)
  if (found?.record !== undefined) return { record: found.record, targetDigest: found.targetDigest }
  throw new LoamError('IMAGE_NOT_FOUND', `${options.attempted} ${text}: no such image in the store`, {
    hint: `${suggest(services, text)}\`loam images\` lists the images in the store; \`loam pull\` fetches one.`,
  })
}

/** Removes a name, and the image with its last name. @throws IMAGE_NOT_FOUND, IMAGE_IN_USE */
export async function removeImage(
  services: ListServices,
  text: string,
  options: ImageOptions,
): Promise<Digest | undefined> {
  const { images, containers, additionalImages } = services.metadata
  const found = services.sources.find(text, options).name
  const record = findImage(services, found, options)
  if (record === undefined) {
    throw new LoamError('IMAGE_NOT_FOUND', `remove ${text}: no such image`, {
      hint: '`loam images` lists the images in the store.',
    })
  }
  const name = found.transport === 'store' ? undefined : formatAnyName(found)
  const removed = await images.removeAll(() => {
    const hasOtherNames = images.namesOf(record.digest).some(({ reference }) => reference !== name)
    if (name !== undefined && hasOtherNames) return []
    requireUnused(text, containers.usersOfImage(record.digest))
    requireNotExported(text, additionalImages.directoriesOf(record.digest))
    return [record]
  })
  if (removed.length > 0 || name === undefined) return record.digest
  await images.removeName(name)
  return undefined
}

/** @throws IMAGE_IN_USE */
function requireUnused(text: string, users: readonly string[]): void {
  if (users.length === 0) return
  const more = users.length > MAX_SHOWN ? ` and ${users.length - MAX_SHOWN} more` : ''
  const message = `remove ${text}: it is in use by containers (${users.slice(0, MAX_SHOWN).join(', ')}${more})`
  throw new LoamError('IMAGE_IN_USE', message, {
    hint: `Destroy them first: loam destroy ${users.join(' ')}`,
  })
}

/** @throws IMAGE_IN_USE */
function requireNotExported(text: string, [directory]: readonly string[]): void {
  if (directory === undefined) return
  throw new LoamError('IMAGE_IN_USE', `remove ${text}: it is in the additional image store ${directory}`, {
    hint: `Remove it from there first: loam unexport ${directory} ${text}`,
  })
}

export function describePulled(source: ImageSource, image: StoredImage): PulledImage {
  return { name: source.name, digest: image.targetDigest, image: image.record }
}

export function appcManifestOf(manifest: Buffer): unknown {
  const document = parseManifestDocument(manifest, undefined, 'manifest')
  const parts = document.kind === 'manifest' ? readAppcParts(document.annotations) : []
  const own = parts.at(-1)?.manifest
  return own === undefined ? undefined : parseStrictJson(Buffer.from(own), 'Appc manifest')
}
