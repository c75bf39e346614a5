import { existsSync, statSync } from 'node:fs'
import { type BlobStore, IngestArea, type StorePaths } from '../content/index.ts'
import { cancelable, isLoamError, LoamError } from '../errors/index.ts'
import {
  type AppcName,
  parseDiffId,
  type Digest,
  type DocumentLimits,
  type ImageReference,
  isDockerHub,
  parseManifestDocument,
  type Platform,
  suitsAppcName,
  MEDIA_TYPES,
  type StoredReference,
  storedReference,
} from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { hostPlatform, searchPath } from '../linux/index.ts'
import type { ImageType, MetadataStore } from '../metadata/index.ts'
import {
  type AppcImage,
  type AppcPart,
  askedBy,
  type DockerEndpoint,
  type FolderPacker,
  formatImageName,
  type ImageAddress,
  type ImageSource,
  knownAppcImage,
  type NameDefaults,
  type ArchivedSource,
  openAllSources,
  openAnySource,
  openSource,
  type OpenSourceOptions,
  readAppcParts,
  streamFile,
  type ImageRequest,
  type NamedType,
  type OpenBlobOptions,
  type ParsedRequest,
  parseImageRequest,
} from '../sources/index.ts'
import type { ImageLocation } from '../policy/index.ts'
import type { CredentialProviders, CredentialSource, PodTokens, RegistryClient } from '../registry/index.ts'
import {
  forRegistry,
  createFileClient,
  createProviders,
  createRegistryClient,
  findCredentials,
} from './registry-access.ts'
import { RequestScope } from './request-scope.ts'
import type { ImageOptions } from './requests.ts'
import type { Settings } from '../config/index.ts'
import { type AnyImageName, findById, findByKnownName, storedSource } from './stored-name.ts'
import { locationsOfImage } from './stored-locations.ts'

export interface SourceOpenerOptions {
  readonly values: Settings
  /** The user whose credentials are looked up. */
  readonly userId: number
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that relative paths start from; '' for that of this process. */
  readonly cwd: string
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly blobs: BlobStore
  readonly layers: LayerStore
  /** Holds sources that other requests still read from after the request that opened them. */
  readonly closing: Set<Promise<void>>
}

/** The options that decide the meaning of a name. */
interface NameOptions {
  /** Use the image in the store if the name is of a file that does not exist any more. */
  readonly mayBeGone?: boolean | undefined
  readonly platform?: Platform | undefined
  readonly imageType?: NamedType | undefined
}

/** Opens the locations of images, as the configuration and one request name them. */
export class SourceOpener {
  readonly #options: SourceOpenerOptions
  readonly defaultRegistry: string
  readonly #dockerEndpoints: readonly DockerEndpoint[]
  /** Registries that are configured by an http:// address. */
  readonly #plainRegistries: readonly string[]
  readonly #providers: CredentialProviders | undefined

  constructor(options: SourceOpenerOptions) {
    this.#options = options
    this.#providers = createProviders(options.values, options.env)
    const addresses = options.values.docker_registry
    const urls = urlsOf(addresses)
    this.defaultRegistry = defaultRegistryOf(addresses)
    this.#plainRegistries = urls.filter(({ protocol }) => protocol === 'http:').map(({ host }) => host)
    this.#dockerEndpoints = addresses.map((address) =>
      /^https?:/.test(address)
        ? { kind: 'registry', registry: registryOf(new URL(address)) }
        : { kind: 'archives', folder: address.replace(/^file:\/\//, '') },
    )
  }

  /** The limits of documents from any location. */
  get documentLimits(): DocumentLimits {
    const { limit_manifest_bytes: manifestBytes, limit_config_bytes: configBytes } = this.#options.values
    return { manifestBytes, configBytes }
  }

  /** The defaults for incomplete names. */
  defaults(platform: Platform | undefined): NameDefaults {
    const { cwd, env } = this.#options
    return { registry: this.defaultRegistry, platform: platform ?? hostPlatform(), cwd, env }
  }

  /** Reads a name or a request. @throws REFERENCE_INVALID, SOURCE_INVALID, USAGE, and SOURCE_INVALID for a type that is not allowed */
  parse(image: string | ImageRequest, options: NameOptions = {}): ParsedRequest {
    const request = parseImageRequest(image, this.defaults(options.platform), options.imageType)
    this.#checkType(typeOf(request.name), formatImageName(request.name))
    return request
  }

  /** The same for a name that a user writes, which may also be the id of an image of the store. @throws as `parse`, IMAGE_NOT_FOUND */
  find(image: string | ImageRequest, options: NameOptions = {}): ParsedRequest<AnyImageName> {
    const { metadata } = this.#options
    const known = { metadata, platform: options.platform, defaultRegistry: this.defaultRegistry }
    const byId = typeof image === 'string' ? findById(image, known) : undefined
    if (byId !== undefined) {
      this.#checkType(byId.type, byId.reference)
      return { name: byId, cached: true, credentials: undefined }
    }
    const request = this.parse(image, options)
    const isGone = options.mayBeGone === true && 'path' in request.name && !existsSync(request.name.path)
    const stored = isGone
      ? findByKnownName(formatImageName(request.name), askedBy(request.name), known)
      : undefined
    return stored === undefined ? request : { ...request, name: stored }
  }

  #checkType(type: ImageType, what: string): void {
    const { image_providers: allowed } = this.#options.values
    if (allowed.includes(type)) return
    throw new LoamError('SOURCE_INVALID', `use ${what}: images of type ${type} are not allowed`, {
      hint: `image_providers allows ${allowed.join(', ')}.`,
    })
  }

  /** Returns the store's name for a user's name of an image. */
  nameInStore(image: string | ImageRequest, options: NameOptions = {}): StoredReference {
    return formatImageName(this.parse(image, options).name)
  }

  /** Returns all locations that an image of the store is known to be from; with one of its names, those that it is from by that name. */
  locationsOf(digest: Digest, reference?: StoredReference): ImageLocation[] {
    const parse = (known: string) => this.parse(known).name
    return locationsOfImage(this.#options.metadata, { digest, reference }, parse)
  }

  /** Opens the source of a name for the duration of one operation. */
  async with<T>(
    name: AnyImageName,
    options: ImageOptions,
    act: (source: ImageSource) => Promise<T>,
  ): Promise<T> {
    const own = name.transport === 'docker' ? forRegistry(options, name.reference.registry) : options
    return cancelable(options.signal, `get ${formatAnyName(name)}`, async () =>
      this.#withOptions(own, async (opened, { keepOpen }) => {
        if (name.transport !== 'store')
          return act(Object.assign(await openSource(name, opened), { keepOpen }))
        const again = async (known: string) => openSource(this.parse(known).name, opened)
        const locations = this.locationsOf(name.digest)
        return act(Object.assign(storedSource(name, locations, again), { keepOpen }))
      }),
    )
  }

  /** The same for a file, a folder or an address, whatever image is in it; of several images, opens the one named `name`. */
  async withAny<T>(
    address: ImageAddress,
    name: string,
    options: ImageOptions,
    act: (source: ImageSource, type: ImageType) => Promise<T>,
  ): Promise<T> {
    const what = typeof address === 'string' ? address : 'a stream'
    return cancelable(options.signal, `get ${what}`, async () =>
      this.#withOptions(options, async (opened, { keepOpen }) => {
        const source = Object.assign(await openAnySource(address, this.#referenceOf(name, options), opened), {
          keepOpen,
        })
        const type = source.name.startsWith('aci:') ? 'appc' : 'docker'
        this.#checkType(type, what)
        return act(source, type)
      }),
    )
  }

  /** Opens all images of a file, a folder, an address or a stream. */
  async withAll<T>(
    address: ImageAddress,
    options: ImageOptions,
    act: (images: readonly ArchivedSource[]) => Promise<T>,
  ): Promise<T> {
    const what = typeof address === 'string' ? address : 'a stream'
    this.#checkType('docker', what)
    return cancelable(options.signal, `load ${what}`, async () =>
      this.#withOptions(options, async (opened) => act(await openAllSources(address, opened))),
    )
  }

  /** A name that is not a valid reference is the name of an Appc image, which is parsed once the image is known to be one. */
  #referenceOf(name: string, options: ImageOptions): ImageReference | undefined {
    try {
      const parsed = parseImageRequest(name, this.defaults(options.platform), options.imageType).name
      return parsed.transport === 'docker' ? parsed.reference : undefined
    } catch (error) {
      if (isLoamError(error, 'REFERENCE_INVALID')) return undefined
      throw error
    }
  }

  /** Returns the credentials of requests without their own, or of those for a pod. @throws CREDENTIALS_INVALID */
  configuredCredentials(tokens?: PodTokens): CredentialSource {
    const { values, userId, env, cwd } = this.#options
    const providers = tokens === undefined ? this.#providers : this.#providers?.ofPod(tokens)
    return findCredentials(values, { userId, env, cwd, providers }, undefined)
  }

  /** Returns whether the tokens of a pod may decide which credentials there are for an image. */
  async takesPodTokens({ registry, repository }: ImageReference): Promise<boolean> {
    return (await this.#providers?.takesTokens(registry, repository)) ?? false
  }

  /** Opens a client of a registry for the duration of one operation. */
  async withClient<T>(
    registry: string,
    options: ImageOptions,
    act: (client: RegistryClient) => Promise<T>,
  ): Promise<T> {
    return cancelable(options.signal, `use ${registry}`, async () =>
      this.#withOptions(forRegistry(options, registry), async ({ client }) => act(client)),
    )
  }

  /** Options of turning folders into layers; files that are left out are reported by events. */
  packer(newPath: () => string, onEvent?: ImageOptions['onEvent']): FolderPacker {
    const { layers } = this.#options
    return {
      pack: async (folder, target, options) => {
        const what = 'pack changes'
        const onBytes = (doneBytes: number, totalBytes: number | undefined) =>
          onEvent?.({ kind: 'work', what, doneBytes, totalBytes, isDone: false })
        const { leftOut } = await layers.trees.packFolder(folder, target, { ...options, onBytes })
        const doneBytes = statSync(target).size
        onEvent?.({ kind: 'work', what, doneBytes, totalBytes: doneBytes, isDone: true })
        for (const text of leftOut) onEvent?.({ kind: 'note', text })
      },
      hash: async (path, signal) => parseDiffId(await layers.trees.hashFile(path, signal)),
      newPath,
    }
  }

  async #withOptions<T>(
    options: ImageOptions,
    act: (opened: OpenSourceOptions, scope: RequestScope) => Promise<T>,
  ): Promise<T> {
    const { values, userId, env, cwd, paths } = this.#options
    const own = { ...options, insecure: [...(options.insecure ?? []), ...this.#plainRegistries] }
    await using scope = new RequestScope(this.#options.closing)
    const client = scope.use(
      createRegistryClient(values, { userId, env, cwd, providers: this.#providers }, own),
    )
    const files = scope.use(createFileClient(values, { userId, env, cwd }, own))
    // Files that are created for one request are removed with it.
    const area = scope.use(new LazyIngestArea(paths))
    const newPath = () => area.newPath('source')
    const programs = searchPath(env)
    const opened: OpenSourceOptions = {
      client,
      files,
      newPath,
      onFetch: (address, receivedBytes, isDone) =>
        options.onEvent?.({ kind: 'file', address, receivedBytes, isDone }),
      dockerEndpoints: this.#dockerEndpoints,
      defaultRegistry: this.defaultRegistry,
      cwd,
      mayBeArtifact: options.mayBeArtifact,
      signal: options.signal,
      prefixes: values.appc_simple_discovery_uri_prefix,
      platform: options.platform ?? hostPlatform(),
      limits: {
        tarBytes: values.limit_layer_bytes,
        ratio: values.limit_layer_ratio,
        ...this.documentLimits,
      },
      keyring: values.appc_keyring,
      path: programs,
      mesosStoreDir: values.appc_store_dir,
      hadoop: { home: values.hadoop_home ?? env['HADOOP_HOME'], path: programs },
      folders: this.packer(newPath, options.onEvent),
      findKnown: (name) => this.#findKnown(name),
      onNote: (text) => options.onEvent?.({ kind: 'note', text }),
    }
    return await act(opened, scope)
  }

  /**
   * Finds the Appc images that a name may mean, among the parts of images in the store. Names that a file claims do not
   * count here, unless the id was requested: the images have to be from the locations of their names.
   */
  #findKnown(wanted: AppcName): AppcImage[] {
    const { metadata, layers } = this.#options
    const isFromLocation = (digest: Digest): boolean =>
      metadata.images.namesOf(digest).some(({ origin, reference }) => {
        if (!reference.startsWith('appc://') || origin === undefined || origin.givenBy === 'image')
          return false
        // A dependency counts as from its own location only if no part of the image is from a file.
        const isWhole = origin.locations.every((location) => location.startsWith('appc://'))
        return reference.startsWith(`appc://${wanted.name},`) || (origin.givenBy === 'location' && isWhole)
      })
    return metadata.images
      .digests('appc')
      .filter((digest) => wanted.id !== undefined || isFromLocation(digest))
      .flatMap((digest) => this.#partsOf(digest).map((part) => ({ part, digest })))
      .flatMap(({ part, digest }) => {
        const layer = layers.find(part.diffId)
        const isMeant = wanted.id === undefined || (wanted.id === part.id && part.isIdClaimed === undefined)
        if (layer === undefined || !isMeant) return []
        const descriptor = {
          mediaType: MEDIA_TYPES.ociLayer,
          digest: part.diffId,
          sizeBytes: layer.tarBytes,
        }
        const open = ({ offset, signal }: OpenBlobOptions) =>
          streamFile(layers.tarPath(part.diffId), signal, { start: offset })
        const image = knownAppcImage(part, { descriptor, open }, this.locationsOf(digest))
        return suitsAppcName(wanted, image.parsed) ? [image] : []
      })
  }

  #partsOf(digest: Parameters<BlobStore['find']>[0]): readonly AppcPart[] {
    const bytes = this.#options.blobs.find(digest, 'manifest')
    if (bytes === undefined) return []
    const document = parseManifestDocument(bytes, undefined, `manifest ${digest}`)
    return document.kind === 'manifest' ? readAppcParts(document.annotations) : []
  }
}

/** Returns the name under which the store has an image, or its digest if it has no name. */
export function formatAnyName(name: AnyImageName): StoredReference {
  return name.transport === 'store' ? storedReference(name.reference) : formatImageName(name)
}

/** Returns the type of the store that has images of a name. */
export function typeOf(name: AnyImageName): ImageType {
  if (name.transport === 'store') return name.type
  const { transport } = name
  return transport === 'appc' || transport === 'aci' ? 'appc' : 'docker'
}

function urlsOf(addresses: Settings['docker_registry']): URL[] {
  return addresses.filter((address) => /^https?:/.test(address)).map((address) => new URL(address))
}

/** Returns the registry of names without a host, by the setting `docker_registry`. */
export function defaultRegistryOf(addresses: Settings['docker_registry']): string {
  return registryOf(urlsOf(addresses)[0])
}

/** Docker's own registry has several addresses. */
function registryOf(url: URL | undefined): string {
  if (url === undefined) return 'docker.io'
  return isDockerHub(url.host) ? 'docker.io' : url.host
}

/** An area for unfinished work that is created when it is first needed. */
class LazyIngestArea implements AsyncDisposable {
  readonly #paths: StorePaths
  #area: IngestArea | undefined

  constructor(paths: StorePaths) {
    this.#paths = paths
  }

  newPath(label: string): string {
    this.#area ??= new IngestArea(this.#paths)
    return this.#area.newPath(label)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#area?.[Symbol.asyncDispose]()
  }
}
