import { LoamError } from '../errors/index.ts'
import {
  type Digest,
  formatReference,
  isDigest,
  parseDigest,
  parsePlatform,
  parseReference,
  type Platform,
  platformDistance,
  splitTransport,
  storedReference,
} from '../image/index.ts'
import { hostPlatform } from '../linux/index.ts'
import { type ImageRecord, type ImageType, isOwnWord, type MetadataStore } from '../metadata/index.ts'
import { type ImageLocation, recordedLocations } from '../policy/index.ts'
import type { AskedFor, ImageName, ImageSource, LazyArtifacts } from '../sources/index.ts'

/** An image of the store that is named by its id: the digest of its manifest, its config or its index, or the beginning of one of these. */
export interface StoredName {
  readonly transport: 'store'
  readonly type: ImageType
  /** Digest of its manifest. */
  readonly digest: Digest
  /** The digest of the index if the id named that, else of the manifest. */
  readonly targetDigest: Digest
  /** One of its names; its digest if it has none. */
  readonly reference: string
  /** The requested name, for a signature policy. Undefined: all locations that the image is from. */
  readonly asked?: AskedFor | undefined
  /** The requested digest, if it was complete. */
  readonly pin: Digest | undefined
}

/** The forms in which a user may name an image: its location, or its id in the store. */
export type AnyImageName = ImageName | StoredName

export interface FindOptions {
  readonly metadata: MetadataStore
  /** Undefined: this machine's. */
  readonly platform?: Platform | undefined
  /** Registry of a name without a host. */
  readonly defaultRegistry: string
}

const MAX_CANDIDATES = 10

/**
 * Finds the image of the store that a text is the id of. Returns undefined for a text that can only be a name. An id is never taken for a
 * name: a text that looks like one and is not in the store is not looked up anywhere else. @throws IMAGE_NOT_FOUND also if several images match
 */
export function findById(text: string, options: FindOptions): StoredName | undefined {
  if (!/^(?:sha(?:256|512):)?[0-9a-f]{6,128}$/.test(text)) return undefined
  const { metadata, defaultRegistry } = options
  const asName = nameOf(text, defaultRegistry)
  const isNamed = asName !== undefined && metadata.images.findNames(storedReference(asName)).length > 0
  const matches = matchesOf(text, metadata)
  const digests = [...new Set(matches.map(({ matched }) => matched))]
  const images = new Set(matches.map(({ image }) => image.digest))
  if ((images.size > 1 && digests.length > 1) || (images.size > 0 && isNamed)) {
    const candidates = [...(isNamed ? [asName] : []), ...digests].slice(0, MAX_CANDIDATES)
    throw new LoamError(
      'IMAGE_NOT_FOUND',
      `find image ${text}: it matches ${digests.length + Number(isNamed)} images`,
      {
        hint: `Give more digits of one of: ${candidates.join(', ')}`,
      },
    )
  }
  const found = choose(matches, options)
  if (found !== undefined) return { ...toName(found, metadata), pin: isDigest(text) ? text : undefined }
  // Short words such as `facade` are names.
  if (asName !== undefined && (isNamed || (!/\d/.test(text) && text.length < 12))) return undefined
  throw new LoamError(
    'IMAGE_NOT_FOUND',
    `find image ${text}: no image in the store has an ID with this prefix`,
    {
      hint:
        asName === undefined
          ? '`loam images` lists the images; one of a registry is NAME@sha256:…'
          : `\`loam images\` lists the images. To use it as a name, write ${asName}`,
    },
  )
}

/** Finds an image by a name of the store: for example of a file that does not exist any more. */
export function findByKnownName(
  reference: string,
  asked: AskedFor,
  options: FindOptions,
): StoredName | undefined {
  const { images } = options.metadata
  const names = images.findNames(storedReference(reference))
  const matches = names.flatMap(({ imageDigest, targetDigest: matched }) => {
    const image = images.find(imageDigest)
    return image === undefined ? [] : [{ image, matched }]
  })
  const found = choose(matches, options)
  if (found === undefined) return undefined
  const row = names.find(({ imageDigest }) => imageDigest === found.image.digest)
  const from = recordedLocations(row?.origin)
  return {
    ...toName(found, options.metadata),
    reference,
    asked: { ...asked, locations: [...asked.locations, ...from] },
  }
}

interface Match {
  readonly image: ImageRecord
  readonly matched: Digest
}

/** An image may be named by its manifest, its config, or the index that it was chosen from. */
function matchesOf(text: string, { images }: MetadataStore): Match[] {
  const start = text.includes(':') ? text : `sha256:${text}`
  return images
    .findByDigestPrefix(text)
    .flatMap((image) =>
      [
        image.digest,
        image.configDigest,
        ...images.namesOf(image.digest).map(({ targetDigest }) => targetDigest),
      ]
        .filter((digest) => digest.startsWith(start))
        .map((matched) => ({ image, matched })),
    )
}

/** Returns the image for the platform, among those of one index; the latest, among those with one config. */
function choose(matches: readonly Match[], { platform }: FindOptions): Match | undefined {
  const wanted = platform ?? hostPlatform()
  const [first, ...others] = matches.toSorted((a, b) => b.image.pulledAtMs - a.image.pulledAtMs)
  if (others.length === 0) return first
  const distance = ({ image }: Match) =>
    platformDistance(wanted, parsePlatform(image.platform)) ?? Number.MAX_SAFE_INTEGER
  return [first, ...others].flatMap((match) => match ?? []).toSorted((a, b) => distance(a) - distance(b))[0]
}

function toName({ image, matched }: Match, { images }: MetadataStore): StoredName {
  // A name that an archive claims comes last: it may name any host, which would be asked for lost blobs.
  const names = images.namesOf(image.digest).toSorted((a, b) => Number(isOwnWord(a)) - Number(isOwnWord(b)))
  const isTarget = names.some(({ targetDigest }) => targetDigest === matched)
  return {
    transport: 'store',
    type: image.type,
    digest: image.digest,
    targetDigest: isTarget ? parseDigest(matched) : image.digest,
    reference: names[0]?.reference ?? image.digest,
    pin: undefined,
  }
}

function nameOf(text: string, registry: string): string | undefined {
  try {
    return formatReference(parseReference(text, registry))
  } catch {
    return undefined
  }
}

/** Returns the name of an image for others: the name of a file of this machine, or a digest, is of no use to them. */
export function nameForOthers({ name, isRemote }: ImageSource): string | undefined {
  const isOurs = splitTransport(name, 'file') !== undefined || /^sha(?:256|512):/.test(name)
  return isRemote && !isOurs ? name : undefined
}

/**
 * The source of an image that is in the store. Its location is opened only for documents and blobs that the store has lost. @throws
 * IMAGE_NOT_FOUND if no location is known
 */
export function storedSource(
  name: StoredName,
  locations: readonly ImageLocation[],
  open: (reference: string) => Promise<ImageSource>,
): ImageSource {
  const origin = async () => {
    if (name.reference !== name.digest) return open(name.reference)
    throw new LoamError('IMAGE_NOT_FOUND', `refetch ${name.digest}: the image has no name`)
  }
  return {
    name: storedReference(name.reference),
    // Only its content was requested: the policy evaluates all locations that it is known to be from.
    asked: name.asked ?? { locations, pin: name.pin },
    aliases: [],
    isRemote: true,
    isConverted: false,
    stored: { digest: name.digest, targetDigest: name.targetDigest },
    resolve: async (signal) => {
      const document = await (await origin()).resolve(signal)
      if (document.digest === name.digest || document.digest === name.targetDigest) return document
      throw new LoamError(
        'IMAGE_NOT_FOUND',
        `refetch ${name.digest}: ${name.reference} names another image now`,
      )
    },
    getDocument: async (descriptor, maxBytes, signal) =>
      (await origin()).getDocument(descriptor, maxBytes, signal),
    findSignatures: async function* findSignatures(digests, signal) {
      yield* (await origin()).findSignatures?.(digests, signal) ?? []
    },
    lazyArtifacts: name.reference === name.digest ? undefined : lazyArtifactsOf(origin),
    openBlob: async function* openBlob(descriptor, options) {
      yield* (await origin()).openBlob(descriptor, options)
    },
  }
}

function lazyArtifactsOf(origin: () => Promise<ImageSource>): LazyArtifacts {
  const place = async () => {
    const { name, lazyArtifacts } = await origin()
    if (lazyArtifacts !== undefined) return lazyArtifacts
    throw new LoamError('SOURCE_INVALID', `use ${name}: it cannot have lazy indexes`)
  }
  return {
    find: async function* find(image, options) {
      yield* (await place()).find(image, options)
    },
    getBlob: async (blob, options) => (await place()).getBlob(blob, options),
    push: async (artifact, blobs, signal) => (await place()).push(artifact, blobs, signal),
  }
}
