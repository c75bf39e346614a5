import { randomBytes } from 'node:crypto'
import { openStoreRoot } from '../content/index.ts'
import { cancelable, LoamError } from '../errors/index.ts'
import { type ExportOptions, type ExportSource, exportTo } from '../exports/index.ts'
import type { Digest } from '../image/index.ts'
import { type HostPlace, isRoot, makeDirectories, searchPath } from '../linux/index.ts'
import {
  checkStore,
  type FsckOptions,
  type FsckReport,
  measureStore,
  type StoreUsage,
} from '../maintenance/index.ts'
import { type RootfsRecord } from '../metadata/index.ts'
import { checkContainerId, type ContainerInfo, type RecoveryReport } from '../provisioner/index.ts'
import { importSnapshots, type Snapshotter, type SnapshotImportReport } from '../snapshotter/index.ts'
import { type ImageRequest, renamedSource } from '../sources/index.ts'
import type { StoredImage } from '../stores/index.ts'
import { writeBundle } from './bundle.ts'
import { type Configuration, type ConfigurationInput, readConfiguration } from '../config/index.ts'
import {
  bundlePath,
  findRuntime,
  removeRuntimeContainer,
  runBundle,
  type RuntimePlace,
} from './container-run.ts'
import { collectGarbage, pruneImages, type PruneImagesOptions } from './collection.ts'
import { checkAllowed } from './check-allowed.ts'
import { commitImage } from './commit-image.ts'
import { configOfRootfs } from './image-config.ts'
import {
  describeProvisioned,
  describePulled,
  findPushed,
  inspectImage,
  listImages,
  removeImage,
} from './image-list.ts'
import { reportHost } from './host-report.ts'
import type { MesosContainer } from './mesos-container.ts'
import type { MesosImportOptions, MesosImportReport } from './mesos-import.ts'
import { openMetadata } from './open-metadata.ts'
import { Parts } from './parts.ts'
import { notePushed, pushImage, type PushedImage, type PushOptions } from './push-image.ts'
import { recoverStore } from './recover.ts'
import { makeRefetch } from './refetch.ts'
import { makeRemoteLayers, type RemoteLayersOptions } from './remote-layers.ts'
import type {
  FetchOptions,
  ImageOptions,
  ImageVolume,
  NamingOptions,
  ProvisionImageOptions,
  RecoverOptions,
  RunImageOptions,
  VolumeOptions,
} from './requests.ts'
import type {
  CollectionReport,
  PruneReport,
  HostReport,
  Inspection,
  ListedImage,
  ProvisionedContainer,
  ProvisionedImage,
  ProvisionedVolume,
  PulledImage,
} from './results.ts'
import { type DiffOptions, writeDiff } from './snapshot-diff.ts'
import { formatAnyName, typeOf } from './source-opener.ts'
import { nameForOthers } from './stored-name.ts'
import { planRun } from './run-plan.ts'
import { provisionAll, volumePlace } from './volumes.ts'

export interface LoamOptions extends ConfigurationInput {
  /** Where programs are looked up, and proxies and the home folder named: `process.env` of who opens. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Ends waiting for other processes that are opening the same store. */
  readonly signal?: AbortSignal | undefined
}

const ROOTLESS_NOTE =
  'without root all files are yours: their owners are in the xattr user.rootlesscontainers, devices are empty files, and capabilities are left out'

/** Opens a store, and makes it when it is new. Close it by `await using`. @throws CONFIG_INVALID, STORE_*, PERMISSION_DENIED, READ_ONLY, NO_SPACE */
export async function openLoam(options: LoamOptions = {}): Promise<Loam> {
  const configuration = readConfiguration(options)
  const paths = openStoreRoot(configuration.values.root)
  const metadata = await openMetadata(paths, options.signal)
  return new Loam(new Parts({ configuration, paths, metadata, env: options.env ?? {} }))
}

/**
 * One store, open: images and the root filesystems made of them. Images are named as a user writes them, or by a request as frameworks
 * send it. Everything may be called at once, and by several processes on the same store.
 */
export class Loam implements AsyncDisposable {
  readonly configuration: Configuration
  readonly #parts: Parts

  /** @internal Use `openLoam`. */
  constructor(parts: Parts) {
    this.configuration = parts.configuration
    this.#parts = parts
  }

  /** Brings an image into the store, whatever the store has of it. @throws what references, sources, registries and layers say */
  async pull(image: string | ImageRequest, options: ImageOptions = {}): Promise<PulledImage> {
    const { sources, stores } = this.#parts
    const { name, cached, credentials = options.credentials } = sources.find(image, options)
    // A digest stands for the same for ever, so that nobody needs to be asked.
    const isPinned =
      (name.transport === 'docker' && name.reference.digest !== undefined) ||
      (name.transport === 'appc' && name.appc.id !== undefined)
    return sources.with(name, { ...options, credentials }, async (source) => {
      using stored = await stores[typeOf(name)].get(source, {
        ...options,
        cached: cached ?? isPinned,
        isDurable: true,
      })
      return describePulled(source, stored)
    })
  }

  /**
   * Brings the image of a file, a folder, an address or a pipe (`-` is standard input) into the store, under a name that it can be asked for by. What kind it is is
   * found out; of several images the one of that name is taken. @throws as `pull`, NAME_TAKEN, DIGEST_MISMATCH for a name with another digest
   */
  async put(address: string, name: string, options: ImageOptions & NamingOptions = {}): Promise<PulledImage> {
    const { paths, sources, stores } = this.#parts
    return sources.withAny(address, name, options, async (source, type) => {
      const imageType = options.imageType ?? (type === 'appc' ? 'appc' : 'docker')
      const known = sources.parse(name, { ...options, imageType }).name
      const isCopy = source.name.includes(paths.ingest)
      const renamed = renamedSource(source, known, { mayReplace: options.replace, isCopy })
      using stored = await stores[type].get(renamed, { ...options, cached: false, isDurable: true })
      return describePulled(renamed, stored)
    })
  }

  /** Brings the images of a Mesos agent's stores into this one. What cannot be taken is reported and keeps nothing else out. */
  async importMesos(options: MesosImportOptions): Promise<MesosImportReport> {
    const { importMesos } = await import('./mesos-import.ts')
    return cancelable(options.signal, 'import', async () => importMesos(this.#parts, options))
  }

  /** Makes a root filesystem of an image, which is pulled when it is not in the store. Nothing of it is left on failure. */
  async provision(
    image: string | ImageRequest,
    options: ProvisionImageOptions = {},
  ): Promise<ProvisionedImage> {
    return this.#provision(image, options, (rootfs) => rootfs)
  }

  async #provision<T>(
    image: string | ImageRequest,
    options: ProvisionImageOptions & { readonly volumePlace?: HostPlace },
    use: (provisioned: ProvisionedImage, image: StoredImage) => T,
  ): Promise<T> {
    const { sources, stores, provisioner } = this.#parts
    const containerId = checkContainerId(options.id ?? randomBytes(6).toString('hex'))
    const asked = options.backend ?? this.configuration.values.image_provisioner_backend
    // Before anything is pulled: a backend that cannot work is told at once.
    const { usesFs } = provisioner.chooseBackend(asked)
    const {
      name,
      cached: wantsCached = true,
      credentials = options.credentials,
    } = sources.find(image, { ...options, mayBeGone: options.refresh !== true })
    return sources.with(name, { ...options, credentials }, async (source) => {
      const cached = wantsCached && options.refresh !== true && source.isRemote
      using stored = await stores[typeOf(name)].get(source, { ...options, cached, withFs: usesFs })
      const rootfs = await provisioner.provision({
        containerId,
        image: stored,
        reference: source.name,
        backend: asked,
        isReadOnly: options.isReadOnly ?? false,
        volumePlace: options.volumePlace,
        signal: options.signal,
      })
      if (rootfs.backend === 'copy' && !isRoot()) options.onEvent?.({ kind: 'note', text: ROOTLESS_NOTE })
      return use(describeProvisioned(this.#parts.paths, rootfs, source, stored), stored)
    })
  }

  /**
   * Makes the image volumes of a container, all at the same time. Without a root filesystem of its own an absolute target is one of this
   * machine and has to be there, and a relative one is made in `sandbox`; otherwise both are in the root filesystem. There they are
   * mounted when it returns, until the container is destroyed. @throws VOLUMES_FAILED with all that went wrong; none of them is left then
   */
  async provisionVolumes(
    volumes: readonly ImageVolume[],
    options: VolumeOptions,
  ): Promise<ProvisionedVolume[]> {
    const root = this.#parts.provisioner
      .find(options.id)
      ?.rootfses.find((rootfs) => rootfs.volumeTarget === undefined)
    if (root !== undefined) this.#parts.provisioner.requireStanding(root, `make volumes of ${options.id}`)
    const { sandbox_directory: sandboxDirectory } = this.configuration.values
    const rootfses = this.#parts.metadata.containers.rootfses()
    const places = { rootfsPath: root?.rootfsPath, sandboxDirectory, sandbox: options.sandbox, rootfses }
    return this.#provisionAll(volumes, options, (volume) => volumePlace(volume.target, places))
  }

  /**
   * Makes the root filesystem of a container and shows its image volumes in it, until it is destroyed. What it has of this machine is for its
   * runtime to mount. Nothing is left on failure. @throws USAGE for a container without an image; as `provision` and `provisionVolumes`
   */
  async provisionContainer(
    container: MesosContainer,
    options: ProvisionImageOptions = {},
  ): Promise<ProvisionedContainer> {
    if (container.image === undefined) {
      throw new LoamError('USAGE', 'provision a container: it has no image of its own', {
        hint: 'Add "mesos": {"image": …}; `loam volume` shows images to a container without a root filesystem.',
      })
    }
    const rootfs = await this.provision(container.image, options)
    const { containerId: id, uuid } = rootfs
    try {
      const { isReadOnly: _isReadOnly, ...forVolumes } = options
      const volumes = await this.provisionVolumes(container.volumes, { ...forVolumes, id })
      return { rootfs, volumes, hostMounts: container.hostMounts }
    } catch (error) {
      // A clean-up that fails must not hide why the volumes failed; recover finds what it leaves.
      await this.#parts.provisioner.destroyRootfs(id, uuid).catch(() => undefined)
      throw error
    }
  }

  async #provisionAll(
    volumes: readonly ImageVolume[],
    options: VolumeOptions,
    placeOf: (volume: ImageVolume) => HostPlace | undefined,
  ): Promise<ProvisionedVolume[]> {
    return provisionAll(volumes, {
      sandboxDirectory: this.configuration.values.sandbox_directory,
      provision: async (volume) => {
        const place = placeOf(volume)
        const own = { ...options, ...(place === undefined ? {} : { volumePlace: place }) }
        return this.#provision(volume.image, { ...own, isReadOnly: volume.isReadOnly }, (rootfs) => rootfs)
      },
      signal: options.signal,
      undo: async ({ uuid }) => this.#parts.provisioner.destroyRootfs(options.id, uuid),
    })
  }

  /**
   * Runs a process in a new root filesystem of an image, with the standard streams of this process, and takes the root
   * filesystem away afterwards unless it is to be kept. Returns the process's status.
   * @throws CONTAINER_EXISTS, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, USER_NOT_FOUND, RUNTIME_FAILED, VOLUMES_FAILED
   */
  async run(image: string | ImageRequest, options: RunImageOptions = {}): Promise<number> {
    const place = this.#runtimePlace()
    findRuntime(place)
    if (options.id !== undefined && this.#parts.provisioner.find(options.id) !== undefined) {
      throw new LoamError('CONTAINER_EXISTS', `run ${options.id}: there is a container of that id`, {
        hint: `Choose another --id, or remove it: loam destroy ${options.id}`,
      })
    }
    const { volumes, mounts, env, confinement } = planRun(options, this.#parts.env, this.#parts.paths)
    // The runtime makes mount points first and the root filesystem read-only after that.
    const writable = { ...options, isReadOnly: false }
    const { rootfs, config } = await this.#provision(image, writable, (provisioned, stored) => ({
      rootfs: provisioned,
      config: stored.config,
    }))
    const { containerId } = rootfs
    try {
      const { imageType: _imageType, command: _command, ...forVolumes } = options
      // The runtime mounts them, in the container's own view.
      const provisioned = await this.#provisionAll(
        volumes,
        { ...forVolumes, id: containerId },
        () => undefined,
      )
      makeDirectories(place.state)
      writeBundle(bundlePath(place, containerId), {
        rootfs,
        run: config.run,
        options: { ...options, mounts, env },
        volumes: provisioned,
        confinement,
        settings: this.configuration.values,
      })
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
    if (options.keep !== true) await this.#parts.provisioner.destroy(id)
  }

  #runtimePlace(): RuntimePlace {
    const { state, runtime } = this.configuration.values
    return { state, runtime, env: this.#parts.env }
  }

  /** Takes a container away: its process, its root filesystems, and those nested in it. Returns false when there is none. */
  async destroy(id: string, signal?: AbortSignal): Promise<boolean> {
    checkContainerId(id)
    const place = this.#runtimePlace()
    const inside = this.#parts.metadata.containers
      .list()
      .filter((container) => container.id === id || container.id.startsWith(`${id}/`))
    for (const container of inside.toReversed()) {
      await removeRuntimeContainer(place, container.id)
    }
    return cancelable(signal, `destroy ${id}`, async () => this.#parts.provisioner.destroy(id, signal))
  }

  /** Lists the containers that have root filesystems. */
  containers(): ContainerInfo[] {
    return this.#parts.provisioner.list()
  }

  /** Lists the images in the store. */
  images(): ListedImage[] {
    return listImages(this.#parts)
  }

  /** Finds an image by name or digest, or a container by id. @throws IMAGE_NOT_FOUND */
  inspect(text: string, options: ImageOptions = {}): Inspection {
    const container = this.#parts.provisioner.find(text)
    return container === undefined
      ? inspectImage(this.#parts, text, options)
      : { kind: 'container', container }
  }

  /**
   * Takes a name of an image away; with its last name the image goes, and by `prune` its layers.
   * Returns the digest when the image went. @throws IMAGE_NOT_FOUND, IMAGE_IN_USE
   */
  removeImage(text: string, options: ImageOptions = {}): Digest | undefined {
    return this.#parts.reserve.free(() => removeImage(this.#parts, text, options))
  }

  /** Removes images without a name that no container uses, and what no image needs; with `all` and `local` more. */
  prune(options: PruneImagesOptions = {}): PruneReport {
    return this.#parts.reserve.free(() => pruneImages(this.#parts, options))
  }

  /** Removes the images that were not used for the longest time, as far as `image_gc_config` says that there is too little room. */
  collectGarbage(options: { readonly dryRun?: boolean } = {}): CollectionReport {
    return this.#parts.reserve.free(() => collectGarbage(this.#parts, options))
  }

  /** Puts right what a crash or a reboot has left. With `known`, all other containers are destroyed. */
  async recover(options: RecoverOptions = {}): Promise<RecoveryReport> {
    return recoverStore(this.#parts, options)
  }

  /**
   * Writes an image, pulled if needed, or a container's root filesystem as it stands, to a file or folder.
   * @throws OUTPUT_EXISTS, USAGE, and what `pull` throws
   */
  async export(image: string, options: ExportOptions & ImageOptions): Promise<void> {
    const { provisioner, layers, ingest, sources, stores } = this.#parts
    const container = provisioner.find(image)
    const exporter = {
      layers,
      ingest,
      path: searchPath(this.#parts.env),
      onNote: (text: string) => options.onEvent?.({ kind: 'note', text }),
    }
    if (container !== undefined) {
      using _held = await provisioner.hold(container.id, options.signal)
      // Whoever had the lock may have begun to take it away.
      await exportTo(this.#rootfsSource(provisioner.find(container.id) ?? container), options, exporter)
      return
    }
    const { name } = sources.find(image, { ...options, mayBeGone: true })
    await sources.with(name, options, async (source) => {
      using stored = await stores[typeOf(name)].get(source, { ...options, cached: source.isRemote })
      const diffIds = stored.layers.map(({ diffId }) => diffId)
      const described = { readConfig: () => stored.configBytes, name: nameForOthers(source) }
      await exportTo({ kind: 'image', layers: diffIds, image: described }, options, exporter)
    })
  }

  #rootfsSource({ id, rootfses }: ContainerInfo): ExportSource {
    const [rootfs, other] = rootfses.filter(({ volumeTarget: target }) => target === undefined)
    if (rootfs === undefined || other !== undefined) {
      throw new LoamError(
        'USAGE',
        `export ${id}: it has ${rootfses.length} root filesystems, and one is needed`,
      )
    }
    this.#parts.provisioner.requireStanding(rootfs, `export ${id}`)
    return {
      kind: 'rootfs',
      path: rootfs.rootfsPath,
      image: { readConfig: () => configOfRootfs(this.#parts, rootfs), name: undefined },
    }
  }

  /**
   * Opens the snapshots of this store, for containerd. With `isRemote`, layers that a client names by labels are brought in by Loam and
   * never unpacked, where this machine can show them. Closed with the store.
   */
  openSnapshotter(options: RemoteLayersOptions & { readonly isRemote: boolean }): Snapshotter {
    const parts = this.#parts
    if (!options.isRemote) return parts.makeSnapshotter()
    const canShow = parts.provisioner.probe().some(({ name, probe }) => name === 'erofs' && probe.isSupported)
    return parts.makeSnapshotter(makeRemoteLayers(parts, { ...options, canShow }))
  }

  /** Brings in the snapshots of containerd's overlay snapshotter of early 2017, by copying their files. */
  async importSnapshots(folder: string, signal?: AbortSignal): Promise<SnapshotImportReport> {
    return cancelable(signal, `import ${folder}`, async () =>
      importSnapshots(this.openSnapshotter({ isRemote: false }), folder, this.#parts.env, signal),
    )
  }

  /** Writes what a snapshot changes on its parent as a layer: a tar with whiteouts, to a new file or `-`. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND, OUTPUT_EXISTS, LAYER_UNSUPPORTED */
  async diffSnapshot(key: string, output: string, options: DiffOptions = {}): Promise<void> {
    await cancelable(options.signal, `diff ${key}`, async () => writeDiff(this.#parts, key, output, options))
  }

  /**
   * Makes an image of a snapshot, or of a container, with all its layers, under a name in the store. `base` is an image whose config the new
   * one begins with. @throws SNAPSHOT_NOT_FOUND, USAGE, IMAGE_NOT_FOUND, LAYER_UNSUPPORTED
   */
  async commitImage(
    key: string,
    name: string,
    options: ImageOptions & NamingOptions & { readonly base?: string | undefined } = {},
  ): Promise<PulledImage> {
    const base = options.base === undefined ? undefined : await this.#configOf(options.base, options)
    using stored = await cancelable(options.signal, `commit ${key}`, async () =>
      commitImage(this.#parts, key, name, { ...options, config: base }),
    )
    return { name: this.#parts.sources.nameInStore(name), digest: stored.targetDigest, image: stored.record }
  }

  async #configOf(image: string, options: ImageOptions): Promise<Buffer> {
    const { sources, stores, blobs } = this.#parts
    const { name } = sources.find(image, { ...options, mayBeGone: true })
    const { configDigest } = await sources.with(name, options, async (source) =>
      stores[typeOf(name)].describe(source, { ...options, cached: true }),
    )
    return blobs.get(configDigest, 'config')
  }

  /** Uploads an image of the store to a registry, under its own name or another. @throws IMAGE_NOT_FOUND, REGISTRY_*, POLICY_REFUSED, DIGEST_MISMATCH for a name with another digest */
  async push(
    image: string,
    options: ImageOptions & PushOptions & { readonly to?: string | undefined } = {},
  ): Promise<PushedImage> {
    const { sources } = this.#parts
    const subject = findPushed(this.#parts, image, options)
    await checkAllowed(this.#parts, image, { digest: subject.record.digest, options })
    const { name } = sources.find(options.to ?? image, options)
    if (name.transport !== 'docker') {
      throw new LoamError('USAGE', `push ${image}: ${options.to ?? image} is no reference of a registry`)
    }
    const pushed = await sources.withClient(name.reference.registry, options, async (client) =>
      pushImage(this.#parts, subject, { reference: name.reference, client }, options),
    )
    notePushed(this.#parts, subject, pushed, formatAnyName(name))
    return pushed
  }

  /** Tells what images, layers and containers take of the disk. */
  usage(): StoreUsage {
    const { paths, metadata, layers } = this.#parts
    return measureStore(paths, metadata, layers)
  }

  /** Holds everything in the store against what it ought to be, and with `repair` mends what is broken. */
  async fsck(options: FsckOptions & FetchOptions): Promise<FsckReport> {
    const { paths, metadata, blobs, layers, provisioner } = this.#parts
    const isStanding = (rootfs: RootfsRecord) => provisioner.isStanding(rootfs)
    const parts = { paths, metadata, blobs, layers, isStanding, ...makeRefetch(this.#parts, options) }
    return cancelable(options.signal, 'check the store', async () => checkStore(parts, options))
  }

  /** Tells what this machine can do, backend by backend, and why not. */
  doctor(): HostReport {
    return reportHost(this.#parts, this.#runtimePlace())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts[Symbol.asyncDispose]()
  }
}
