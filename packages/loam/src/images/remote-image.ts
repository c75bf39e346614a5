import { isLoamError, LoamError, withHint } from '../errors/index.ts'
import {
  type Descriptor,
  type Digest,
  digestOf,
  formatPlatform,
  imageEntries,
  isDigest,
  limitOf,
  mayBeIndex,
  parseImageConfig,
  parseManifestDocument,
  parseStrictJson,
  type Platform,
  rankEntries,
  splitDigest,
} from '../image/index.ts'
import { hostPlatform } from '../linux/index.ts'
import {
  type ImageSource,
  isNameUnknown,
  kindOf,
  noRepository,
  readArtifact,
  type Referrer,
} from '../sources/index.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'
import { formatAnyName } from './source-opener.ts'

/** The tags of a repository. */
export interface RepositoryTags {
  /** The repository with its registry. */
  readonly repository: string
  /** Its tags, in the order of the registry. */
  readonly tags: readonly string[]
}

/** An image for one platform, as its location has it. */
export interface RemoteManifest {
  /** Digest of the manifest. */
  readonly digest: Digest
  /** As `linux/amd64`. */
  readonly platform: string
  /** The manifest: parsed JSON. */
  readonly manifest: unknown
  /** Digest of the config. */
  readonly configDigest: Digest
  /** The config: parsed JSON. */
  readonly config: unknown
  /** Its layers, base first. */
  readonly layers: readonly Descriptor[]
  /** Bytes of its layers, as they are transferred. */
  readonly sizeBytes: number
}

/** An image at its location: nothing of it is in the store, and no signature policy was asked. */
export interface RemoteImage {
  /** The requested name, normalised. */
  readonly name: string
  /** Digest of what the name refers to: an index, or the manifest of an image or an artifact. */
  readonly digest: Digest
  /** Its media type. */
  readonly mediaType: string
  /** Its bytes as text, which has this digest. */
  readonly raw: string
  /** The images of an index, or the only image. */
  readonly platforms: readonly {
    /** As `linux/amd64`. */
    readonly platform: string
    /** Digest of its manifest. */
    readonly digest: Digest
  }[]
  /** The image for the requested platform; undefined if there is none, or if it is an artifact. */
  readonly image: RemoteManifest | undefined
  /** Signatures, SBOMs, attestations and others that are kept beside it. */
  readonly referrers: readonly Referrer[]
}

/** Options of a look at an image. */
export interface RemoteImageOptions extends ImageOptions {
  /** False: leave out what is kept beside the image, which takes several requests. */
  readonly referrers?: boolean | undefined
}

type RemoteServices = Pick<ImageServices, 'sources'>

const MAX_DEPTH = 4
const MAX_ATTESTATIONS = 20

/** Lists the tags of a repository. @throws REGISTRY_*, IMAGE_NOT_FOUND for a repository that does not exist, USAGE */
export async function listRepositoryTags(
  { sources }: RemoteServices,
  repository: string,
  options: ImageOptions,
): Promise<RepositoryTags> {
  const { name } = sources.parse(repository, options)
  if (name.transport !== 'docker')
    throw new LoamError('USAGE', `list tags of ${repository}: it is not a repository of a registry`)
  const { reference } = name
  const path = `${reference.registry}/${reference.repository}`
  const tags = await sources.withClient(reference.registry, options, async (client) =>
    client.listTags(reference, { signal: options.signal }).catch((error: unknown) => {
      if (!isLoamError(error, 'IMAGE_NOT_FOUND')) throw error
      const hint = isNameUnknown(error)
        ? noRepository(reference)
        : 'The registry may have no list of tags, or no such repository.'
      throw withHint(error, hint)
    }),
  )
  return { repository: path, tags }
}

/** Looks at an image at its location. @throws as `pull`, without errors of layers */
export async function inspectRemoteImage(
  { sources }: RemoteServices,
  text: string,
  options: RemoteImageOptions,
): Promise<RemoteImage> {
  const { name } = sources.parse(text, options)
  const limits = sources.documentLimits
  return sources.with(name, options, async (source) => {
    const { bytes, mediaType, digest } = await source.resolve(options.signal)
    const look = new RemoteLook(source, { ...options, limits })
    const document = look.parse(bytes, mediaType, digest)
    const image = document === undefined ? undefined : await look.findImage(bytes, mediaType, digest)
    const platforms =
      document?.kind === 'index'
        ? platformsOf(document.manifests)
        : image === undefined
          ? []
          : [{ platform: image.platform, digest }]
    return {
      name: formatAnyName(name),
      digest,
      mediaType: document?.mediaType ?? mediaType ?? '',
      raw: bytes.toString('utf8'),
      platforms,
      image,
      referrers:
        options.referrers === false
          ? []
          : [
              ...(document?.kind === 'index'
                ? await look.attestations(document.manifests, image?.digest)
                : []),
              ...((await source.findReferrers?.(
                image === undefined ? [digest] : [digest, image.digest],
                options.signal,
              )) ?? []),
            ],
    }
  })
}

function platformsOf(entries: readonly Descriptor[]): { platform: string; digest: Digest }[] {
  return imageEntries(entries).map(({ platform, digest }) => ({
    platform: platform === undefined ? 'unknown' : formatPlatform(platform),
    digest,
  }))
}

/** Entries of nested indexes to look into for the image of a platform. */
const MAX_LOOKED = 32

class RemoteLook {
  /** Digests of entries that were looked into: an index may name the same ones again and again. */
  readonly #looked = new Set<Digest>()
  readonly #source: ImageSource
  readonly #options: ImageOptions & { readonly limits: ImageServices['sources']['documentLimits'] }

  constructor(
    source: ImageSource,
    options: ImageOptions & { readonly limits: ImageServices['sources']['documentLimits'] },
  ) {
    this.#source = source
    this.#options = options
  }

  /** Parses a manifest or an index; undefined for an artifact. */
  parse(bytes: Buffer, mediaType: string | undefined, digest: Digest) {
    try {
      return parseManifestDocument(bytes, mediaType, `manifest ${digest}`)
    } catch (error) {
      if (isLoamError(error, 'MEDIA_TYPE_UNSUPPORTED')) return undefined
      throw error
    }
  }

  /** Finds the image for the platform. @throws IMAGE_NOT_FOUND if a platform was requested that it does not have */
  async findImage(
    bytes: Buffer,
    mediaType: string | undefined,
    digest: Digest,
    depth = 0,
  ): Promise<RemoteManifest | undefined> {
    const document = this.parse(bytes, mediaType, digest)
    if (document === undefined || depth > MAX_DEPTH) return undefined
    if (document.kind === 'manifest') return this.#describe(bytes, document, digest)
    const wanted = this.#options.platform ?? hostPlatform()
    const [best] = rankEntries(document.manifests, wanted)
    const nested = document.manifests.filter(
      (entry) => entry.platform === undefined && entry.mediaType !== '' && mayBeIndex(entry.mediaType),
    )
    for (const entry of [...(best === undefined ? [] : [best.entry]), ...nested]) {
      if (this.#looked.has(entry.digest)) continue
      this.#looked.add(entry.digest)
      if (this.#looked.size > MAX_LOOKED)
        throw new LoamError(
          'DOCUMENT_INVALID',
          `inspect ${this.#source.name}: it has more than ${MAX_LOOKED} nested indexes`,
        )
      const found = await this.findImage(await this.#get(entry), entry.mediaType, entry.digest, depth + 1)
      if (found !== undefined) return found
    }
    if (depth === 0 && this.#options.platform !== undefined)
      throw this.#noPlatform(wanted, document.manifests)
    return undefined
  }

  #noPlatform(wanted: Platform, entries: readonly Descriptor[]): LoamError {
    const has = platformsOf(entries).map(({ platform }) => platform)
    return new LoamError(
      'IMAGE_NOT_FOUND',
      `inspect ${this.#source.name}: it has no image for ${formatPlatform(wanted)}`,
      { hint: `It has: ${has.join(', ')}` },
    )
  }

  async #describe(
    bytes: Buffer,
    {
      config: { digest: configDigest, ...rest },
      layers,
    }: { readonly config: Descriptor; readonly layers: readonly Descriptor[] },
    digest: Digest,
  ): Promise<RemoteManifest> {
    const config = await this.#get({ digest: configDigest, ...rest }, 'config')
    const what = `config ${configDigest}`
    return {
      digest,
      platform: formatPlatform(parseImageConfig(config, what).platform),
      manifest: parseStrictJson(bytes, `manifest ${digest}`),
      configDigest,
      config: parseStrictJson(config, what),
      layers,
      sizeBytes: layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    }
  }

  /** Lists the attestations that BuildKit has put into an index, of one image. */
  async attestations(entries: readonly Descriptor[], image: Digest | undefined): Promise<Referrer[]> {
    const found: Referrer[] = []
    const own = entries.filter(
      ({ annotations }) => annotations?.['vnd.docker.reference.type'] === 'attestation-manifest',
    )
    for (const entry of own.slice(0, MAX_ATTESTATIONS)) {
      const subject = entry.annotations?.['vnd.docker.reference.digest']
      if (!isDigest(subject) || (image !== undefined && subject !== image)) continue
      const { type, predicates } = readArtifact(await this.#get(entry), `manifest ${entry.digest}`)
      found.push({
        kind: kindOf(type, predicates),
        digest: entry.digest,
        subject,
        type,
        predicates,
        tag: undefined,
      })
    }
    return found
  }

  async #get(descriptor: Descriptor, kind: 'manifest' | 'config' = 'manifest'): Promise<Buffer> {
    const { limits, signal } = this.#options
    const bytes = await this.#source.getDocument(descriptor, limitOf(kind, limits), signal)
    const actual = digestOf(bytes, splitDigest(descriptor.digest).algorithm)
    if (actual === descriptor.digest) return bytes
    throw new LoamError('DIGEST_MISMATCH', `get ${kind} ${descriptor.digest}: its digest is ${actual}`)
  }
}
