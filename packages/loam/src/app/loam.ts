import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import {
  type BackendName,
  type Backend,
  bindBackend,
  copyBackend,
  erofsBackend,
  type LayerStack,
  overlayBackend,
  type Probe,
} from '../backends/index.ts'
import { BlobStore, IngestArea, lockPath, openStoreRoot, type StorePaths } from '../content/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import { type ExportOptions, type ExportSource, exportTo } from '../exports/index.ts'
import type { Digest, Platform } from '../image/index.ts'
import { LayerStore, WorkerPool } from '../layers/index.ts'
import { hasIsal, hostPlatform, isRoot, kernelRelease, readBootId } from '../linux/index.ts'
import {
  checkStore,
  type FsckOptions,
  type FsckReport,
  measureStore,
  type StoreUsage,
} from '../maintenance/index.ts'
import { type ImageRecord, MetadataStore, type RootfsRecord } from '../metadata/index.ts'
import {
  checkContainerId,
  type ContainerInfo,
  Provisioner,
  type RecoveryReport,
} from '../provisioner/index.ts'
import { type ImageSource, openSource, parseImageName } from '../sources/index.ts'
import { DockerStore, type PruneResult, type StoredImage } from '../stores/index.ts'
import { writeBundle } from './bundle.ts'
import { type Configuration, type ConfigurationInput, readConfiguration } from './configuration.ts'
import {
  bundlePath,
  findRuntime,
  removeRuntimeContainer,
  runBundle,
  type RuntimePlace,
} from './container-run.ts'
import { makeRegistryClient } from './registry-access.ts'
import { isDigestLike, isPinned, nameInStore } from './image-names.ts'
import { makeRefetch } from './refetch.ts'
import type { ImageOptions, ProvisionImageOptions, RunImageOptions } from './requests.ts'
import type { HostReport, Inspection, ListedImage, ProvisionedImage, PulledImage } from './results.ts'

export interface LoamOptions extends ConfigurationInput {
  /** Where programs are looked up, and proxies and the home folder named: `process.env` of who opens. */
  readonly env?: Readonly<Record<string, string | undefined>>
}

/** Opens a store, and makes it when it is new. Close it by `await using`. @throws CONFIG_INVALID, STORE_*, PERMISSION_DENIED, READ_ONLY, NO_SPACE */
export async function openLoam(options: LoamOptions = {}): Promise<Loam> {
  const configuration = readConfiguration(options)
  const paths = openStoreRoot(configuration.values.root)
  const metadata = await MetadataStore.open(paths.database, lockPath(paths, 'metadata', 'open'))
  return new Loam({ configuration, paths, metadata, env: options.env ?? {} })
}

interface Parts {
  readonly configuration: Configuration
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly env: Readonly<Record<string, string | undefined>>
}

/**
 * One store, open: images and the root filesystems made of them. Everything may be called at once, and by several
 * processes on the same store. Owns threads, a database and a folder for unfinished work.
 */
export class Loam implements AsyncDisposable {
  readonly configuration: Configuration
  readonly #parts: Parts
  readonly #workers = new WorkerPool()
  readonly #layers: LayerStore
  readonly #store: DockerStore
  readonly #blobs: BlobStore
  readonly #provisioner: Provisioner
  readonly #hostPlatform: Platform = hostPlatform()
  #ingest: IngestArea | undefined
  readonly #makeIngest = () => (this.#ingest ??= new IngestArea(this.#parts.paths))

  /** @internal Use `openLoam`. */
  constructor(parts: Parts) {
    const { configuration, paths, metadata } = parts
    const { values } = configuration
    this.configuration = configuration
    this.#parts = parts
    const bootId = readBootId()
    const ingest = this.#makeIngest
    const limits = {
      tarBytes: values.max_layer_bytes,
      entries: values.max_layer_entries,
      fileBytes: values.max_file_bytes,
      xattrBytes: values.max_layer_xattr_bytes,
      ratio: values.max_layer_ratio,
    }
    this.#blobs = new BlobStore(paths)
    this.#layers = new LayerStore({
      paths,
      metadata,
      workers: this.#workers,
      ingest,
      limits,
      bootId,
    })
    this.#store = new DockerStore({
      paths,
      metadata,
      blobs: this.#blobs,
      layers: this.#layers,
      ingest,
      hostPlatform: this.#hostPlatform,
    })
    const backendOptions = { paths, layers: this.#layers, ingest, stateFolder: values.state }
    const backends: readonly Backend[] = [erofsBackend, overlayBackend, copyBackend, bindBackend].map(
      (make) => make(backendOptions),
    )
    this.#provisioner = new Provisioner({ paths, metadata, backends, bootId })
  }

  /** Brings an image into the store, whatever the store has of it. @throws what references, sources, registries and layers say */
  async pull(name: string, options: ImageOptions = {}): Promise<PulledImage> {
    return this.#withSource(name, options, async (source) => {
      using image = await this.#store.get(source, {
        ...options,
        cached: isPinned(name),
        isDurable: true,
      })
      return describePulled(source, image)
    })
  }

  /** Makes a root filesystem of an image, which is pulled when it is not in the store. Nothing of it is left on failure. */
  async provision(name: string, options: ProvisionImageOptions = {}): Promise<ProvisionedImage> {
    return this.#provision(name, options, (rootfs) => rootfs)
  }

  async #provision<T>(
    name: string,
    options: ProvisionImageOptions,
    use: (provisioned: ProvisionedImage, image: StoredImage) => T,
  ): Promise<T> {
    const containerId = checkContainerId(options.id ?? randomBytes(6).toString('hex'))
    const asked = options.backend ?? this.configuration.values.image_provisioner_backend
    // Before anything is pulled: a backend that cannot work is told at once.
    const { usesFs } = this.#provisioner.chooseBackend(asked)
    return this.#withSource(name, options, async (source) => {
      const cached = options.refresh !== true && source.isRemote
      using image = await this.#store.get(source, { ...options, cached, withFs: usesFs })
      const rootfs = await this.#provisioner.provision({
        containerId,
        image,
        reference: source.name,
        backend: asked,
        isReadOnly: options.isReadOnly ?? false,
        signal: options.signal,
      })
      const pulled = describePulled(source, image)
      const documents = {
        manifest: image.manifest.toString('utf8'),
        config: image.configBytes.toString('utf8'),
      }
      return use({ ...rootfs, image: { ...pulled, ...documents } }, image)
    })
  }

  /**
   * Runs a process in a new root filesystem of an image, with the standard streams of this process, and takes the root
   * filesystem away afterwards unless it is to be kept. Returns the process's status.
   * @throws CONTAINER_EXISTS, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, USER_NOT_FOUND, RUNTIME_FAILED
   */
  async run(name: string, options: RunImageOptions = {}): Promise<number> {
    const place = this.#runtimePlace()
    findRuntime(place)
    if (options.id !== undefined && this.#provisioner.find(options.id) !== undefined) {
      throw new LoamError('CONTAINER_EXISTS', `run ${options.id}: there is a container of that id`, {
        hint: `Choose another --id, or remove it: loam destroy ${options.id}`,
      })
    }
    // The runtime makes mount points first and the root filesystem read-only after that.
    const writable = { ...options, isReadOnly: false }
    const { rootfs, config } = await this.#provision(name, writable, (provisioned, image) => ({
      rootfs: provisioned,
      config: image.config,
    }))
    const { containerId } = rootfs
    try {
      mkdirSync(place.state, { recursive: true, mode: 0o700 })
      writeBundle(bundlePath(place, containerId), rootfs, config.run, options)
      options.onStart?.(containerId)
      const status = await runBundle(place, containerId)
      await this.#endRun(place, containerId, options)
      return status
    } catch (error) {
      // A clean-up that fails must not hide why the run failed; recover finds what it leaves.
      await this.#endRun(place, containerId, options).catch(() => undefined)
      throw error
    }
  }

  async #endRun(place: RuntimePlace, id: string, options: RunImageOptions): Promise<void> {
    await removeRuntimeContainer(place, id)
    if (options.keep !== true) await this.#provisioner.destroy(id)
  }

  #runtimePlace(): RuntimePlace {
    const { state, runtime } = this.configuration.values
    return { state, runtime, path: this.#parts.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' }
  }

  /** Takes a container away: its process, its root filesystems, and those nested in it. Returns false when there is none. */
  async destroy(id: string, signal?: AbortSignal): Promise<boolean> {
    checkContainerId(id)
    const place = this.#runtimePlace()
    const inside = this.containers().filter(
      (container) => container.id === id || container.id.startsWith(`${id}/`),
    )
    for (const container of inside.toReversed()) {
      await removeRuntimeContainer(place, container.id)
    }
    return this.#provisioner.destroy(id, signal)
  }

  /** Lists the containers that have root filesystems. */
  containers(): ContainerInfo[] {
    return this.#provisioner.list()
  }

  /** Lists the images in the store. */
  images(): ListedImage[] {
    const names = this.#parts.metadata.images.listNames()
    return this.#parts.metadata.images.list().map((image) => ({
      ...image,
      names: names
        .filter(({ imageDigest }) => imageDigest === image.digest)
        .map(({ reference }) => reference),
    }))
  }

  /** Finds an image by name or digest, or a container by id. @throws IMAGE_NOT_FOUND */
  inspect(text: string, platform?: Platform): Inspection {
    const container = this.#provisioner.find(text)
    if (container !== undefined) return { kind: 'container', container }
    const record = this.#findImage(text, platform)
    if (record === undefined) {
      throw new LoamError(
        'IMAGE_NOT_FOUND',
        `inspect ${text}: there is no image and no container of that name`,
        {
          hint: '`loam images` and `loam ps` list what there is.',
        },
      )
    }
    const document = (digest: Digest): unknown => {
      const bytes = this.#blobs.find(digest, 8 << 20)
      return bytes === undefined ? undefined : JSON.parse(bytes.toString('utf8'))
    }
    const image = this.images().find(({ digest }) => digest === record.digest) ?? {
      ...record,
      names: [],
    }
    return {
      kind: 'image',
      image,
      manifest: document(record.digest),
      config: document(record.configDigest),
    }
  }

  #findImage(text: string, platform?: Platform): ImageRecord | undefined {
    const byDigest = /^(?:sha256:)?[0-9a-f]{6,64}$/.test(text)
      ? this.#parts.metadata.images.findByDigestPrefix(text)
      : []
    if (byDigest.length > 1) {
      throw new LoamError('IMAGE_NOT_FOUND', `find image ${text}: ${byDigest.length} images begin so`, {
        hint: byDigest.map(({ digest }) => digest).join(', '),
      })
    }
    return byDigest[0] ?? this.#store.findByName(nameInStore(text), platform)
  }

  /**
   * Takes a name of an image away; with its last name the image goes, and by `prune` its layers.
   * Returns the digest when the image went. @throws IMAGE_NOT_FOUND, IMAGE_IN_USE
   */
  removeImage(text: string): Digest | undefined {
    const { images, containers } = this.#parts.metadata
    const record = this.#findImage(text)
    if (record === undefined) {
      throw new LoamError('IMAGE_NOT_FOUND', `remove ${text}: there is no such image`, {
        hint: '`loam images` lists what there is.',
      })
    }
    const names = this.images().find(({ digest }) => digest === record.digest)?.names ?? []
    const name = isDigestLike(text) ? undefined : nameInStore(text)
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

  /** Removes the images that no container uses, and what no image needs. Names in `excluded` are kept. */
  prune(options: { readonly dryRun?: boolean; readonly excluded?: readonly string[] } = {}): PruneResult {
    const excluded = (options.excluded ?? []).map(nameInStore)
    if (options.dryRun !== true) this.#store.recover()
    return this.#store.prune({ dryRun: options.dryRun ?? false, excluded })
  }

  /** Puts right what a crash or a reboot has left. With `known`, all other containers are destroyed. */
  async recover(options: { readonly known?: readonly string[] | undefined } = {}): Promise<RecoveryReport> {
    const report = await this.#provisioner.recover({
      known: options.known,
      restore: async (rootfs) => this.#findStack(rootfs),
    })
    return { ...report, swept: [...report.swept, ...this.#store.recover()] }
  }

  /** The layers of a root filesystem that has to be mounted again; a layer that was lost meanwhile is fetched again. */
  async #findStack(rootfs: RootfsRecord): Promise<LayerStack> {
    const missing = rootfs.layers.some((diffId) => this.#layers.find(diffId) === undefined)
    if (missing) await this.pull(rootfs.reference)
    // The row of the root filesystem keeps the layers.
    return { chainId: rootfs.chainId, layers: rootfs.layers.map((diffId) => this.#layers.get(diffId)) }
  }

  /**
   * Writes an image, pulled if needed, or a container's root filesystem as it stands, to a file or folder.
   * @throws OUTPUT_EXISTS, USAGE, and what `pull` throws
   */
  async export(name: string, options: ExportOptions & ImageOptions): Promise<void> {
    const container = this.#provisioner.find(name)
    const exporter = { layers: this.#layers, ingest: this.#makeIngest, path: this.#runtimePlace().path }
    if (container !== undefined) {
      using _held = await this.#provisioner.hold(container.id, options.signal)
      await exportTo(this.#rootfsSource(container), options, exporter)
      return
    }
    await this.#withSource(name, options, async (source) => {
      using image = await this.#store.get(source, { ...options, cached: source.isRemote })
      const layers = image.layers.map(({ diffId }) => diffId)
      const described = { config: image.configBytes, name: source.isRemote ? source.name : undefined }
      await exportTo({ kind: 'image', layers, image: described }, options, exporter)
    })
  }

  #rootfsSource({ id, rootfses }: ContainerInfo): ExportSource {
    const [rootfs, other] = rootfses
    if (rootfs === undefined || other !== undefined) {
      throw new LoamError(
        'USAGE',
        `export ${id}: it has ${rootfses.length} root filesystems, and one is needed`,
      )
    }
    const config = this.#parts.metadata.images.find(rootfs.imageDigest)?.configDigest
    const bytes = config === undefined ? undefined : this.#blobs.find(config, 8 << 20)
    return {
      kind: 'rootfs',
      path: rootfs.rootfsPath,
      image: { config: bytes ?? Buffer.from('{}'), name: undefined },
    }
  }

  /** Tells what images, layers and containers take of the disk. */
  usage(): StoreUsage {
    return measureStore(this.#parts.paths, this.#parts.metadata, this.#layers)
  }

  /** Holds everything in the store against what it ought to be, and with `repair` mends what is broken. */
  async fsck(options: FsckOptions): Promise<FsckReport> {
    const { paths, metadata } = this.#parts
    return checkStore(
      {
        paths,
        metadata,
        blobs: this.#blobs,
        layers: this.#layers,
        bootId: readBootId(),
        ...makeRefetch(metadata.images, this.#store, async (name, act) => this.#withSource(name, {}, act)),
      },
      options,
    )
  }

  /** Tells what this machine can do, backend by backend, and why not. */
  doctor(): HostReport {
    const { values } = this.configuration
    let chosen: BackendName | undefined
    try {
      chosen = this.#provisioner.chooseBackend(values.image_provisioner_backend).name
    } catch (error) {
      if (!isLoamError(error)) throw error
    }
    return {
      kernel: kernelRelease(),
      platform: this.#hostPlatform,
      node: process.version,
      isRoot: isRoot(),
      root: this.#parts.paths.root,
      backends: this.#provisioner
        .probe()
        .map((backend) => ({ ...backend, isDefault: backend.name === chosen })),
      runtime: this.#probeRuntime(),
      inflate: hasIsal() ? 'isal' : 'zlib',
    }
  }

  #probeRuntime(): Probe {
    try {
      return { isSupported: true, note: findRuntime(this.#runtimePlace()) }
    } catch (error) {
      return {
        isSupported: false,
        reason: isLoamError(error) ? (error.hint ?? error.message) : String(error),
      }
    }
  }

  async #withSource<T>(
    name: string,
    options: ImageOptions,
    act: (source: ImageSource) => Promise<T>,
  ): Promise<T> {
    await using client = makeRegistryClient(this.configuration.values, this.#parts.env, options)
    const source = await openSource(parseImageName(name), {
      client,
      newPath: () => this.#makeIngest().newPath('archive'),
    })
    return await act(source)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#workers[Symbol.asyncDispose]()
    this.#ingest?.[Symbol.dispose]()
    this.#ingest = undefined
    this.#parts.metadata[Symbol.dispose]()
  }
}

function describePulled(source: ImageSource, image: StoredImage): PulledImage {
  return { name: source.name, digest: image.targetDigest, image: image.record }
}
