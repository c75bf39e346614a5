import { type Configuration, type ConfigurationInput, readConfiguration } from '../config/index.ts'
import {
  Containers,
  type ImageVolume,
  type MesosContainer,
  type ProvisionedContainer,
  type ProvisionedImage,
  type ProvisionedVolume,
  type ProvisionImageOptions,
  type RecoverOptions,
  type RunImageOptions,
  type VolumeOptions,
} from '../containers/index.ts'
import { openStoreRoot } from '../content/index.ts'
import { cancelable } from '../errors/index.ts'
import type { ExportOptions } from '../exports/index.ts'
import type { Digest } from '../image/index.ts'
import {
  type CollectionReport,
  type DiffOptions,
  type FetchOptions,
  type ImageOptions,
  Images,
  type Inspection,
  type ListedImage,
  createRefetch,
  createRemoteLayers,
  type MesosImportOptions,
  type MesosImportReport,
  type NamingOptions,
  type PruneImagesOptions,
  type PruneReport,
  type PulledImage,
  type PushedImage,
  type PushOptions,
  type RemoteLayersOptions,
  writeDiff,
} from '../images/index.ts'
import {
  checkStore,
  type FsckOptions,
  type FsckReport,
  measureStore,
  type StoreUsage,
} from '../maintenance/index.ts'
import type { RootfsRecord } from '../metadata/index.ts'
import type { ContainerInfo, RecoveryReport } from '../provisioner/index.ts'
import { importSnapshots, type SnapshotImportReport, type Snapshotter } from '../snapshotter/index.ts'
import type { ImageRequest } from '../sources/index.ts'
import { reportHost } from './host-report.ts'
import { openMetadata } from './open-metadata.ts'
import type { HostReport } from './results.ts'
import { Wiring } from './wiring.ts'

export interface LoamOptions extends ConfigurationInput {
  /** Where programs are looked up, and proxies and the home folder named: `process.env` of who opens. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Ends waiting for other processes that are opening the same store. */
  readonly signal?: AbortSignal | undefined
}

/** Opens a store, and makes it when it is new. Close it by `await using`. @throws CONFIG_INVALID, STORE_*, PERMISSION_DENIED, READ_ONLY, NO_SPACE */
export async function openLoam(options: LoamOptions = {}): Promise<Loam> {
  const configuration = readConfiguration(options)
  const paths = openStoreRoot(configuration.values.root)
  const metadata = await openMetadata(paths, options.signal)
  return new Loam(new Wiring({ configuration, paths, metadata, env: options.env ?? {} }))
}

/**
 * One store, open: images and the root filesystems made of them. Images are named as a user writes them, or by a request as frameworks
 * send it. Everything may be called at once, and by several processes on the same store.
 */
export class Loam implements AsyncDisposable {
  readonly configuration: Configuration
  readonly #wiring: Wiring
  readonly #images: Images
  readonly #containers: Containers

  /** @internal Use `openLoam`. */
  constructor(wiring: Wiring) {
    this.configuration = wiring.configuration
    this.#wiring = wiring
    this.#images = new Images(wiring)
    this.#containers = new Containers(wiring)
  }

  /** Brings an image into the store, whatever the store has of it. @throws what references, sources, registries and layers say */
  async pull(image: string | ImageRequest, options: ImageOptions = {}): Promise<PulledImage> {
    return this.#images.pull(image, options)
  }

  /**
   * Brings the image of a file, a folder, an address or a pipe (`-` is standard input) into the store, under a name that it can be asked for by. What kind it is is
   * found out; of several images the one of that name is taken. @throws as `pull`, NAME_TAKEN, DIGEST_MISMATCH for a name with another digest
   */
  async put(address: string, name: string, options: ImageOptions & NamingOptions = {}): Promise<PulledImage> {
    return this.#images.put(address, name, options)
  }

  /** Brings the images of a Mesos agent's stores into this one. What cannot be taken is reported and keeps nothing else out. */
  async importMesos(options: MesosImportOptions): Promise<MesosImportReport> {
    return this.#images.importMesos(options)
  }

  /** Makes a root filesystem of an image, which is pulled when it is not in the store. Nothing of it is left on failure. */
  async provision(
    image: string | ImageRequest,
    options: ProvisionImageOptions = {},
  ): Promise<ProvisionedImage> {
    return this.#containers.provision(image, options)
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
    return this.#containers.provisionVolumes(volumes, options)
  }

  /**
   * Makes the root filesystem of a container and shows its image volumes in it, until it is destroyed. What it has of this machine is for its
   * runtime to mount. Nothing is left on failure. @throws USAGE for a container without an image; as `provision` and `provisionVolumes`
   */
  async provisionContainer(
    container: MesosContainer,
    options: ProvisionImageOptions = {},
  ): Promise<ProvisionedContainer> {
    return this.#containers.provisionContainer(container, options)
  }

  /**
   * Runs a process in a new root filesystem of an image, with the standard streams of this process, and takes the root
   * filesystem away afterwards unless it is to be kept. Returns the process's status.
   * @throws CONTAINER_EXISTS, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, USER_NOT_FOUND, RUNTIME_FAILED, VOLUMES_FAILED
   */
  async run(image: string | ImageRequest, options: RunImageOptions = {}): Promise<number> {
    return this.#containers.run(image, options)
  }

  /** Takes a container away: its process, its root filesystems, and those nested in it. Returns false when there is none. */
  async destroy(id: string, signal?: AbortSignal): Promise<boolean> {
    return this.#containers.destroy(id, signal)
  }

  /** Lists the containers that have root filesystems. */
  containers(): ContainerInfo[] {
    return this.#containers.list()
  }

  /** Lists the images in the store. */
  images(): ListedImage[] {
    return this.#images.list()
  }

  /** Finds an image by name or digest, or a container by id. @throws IMAGE_NOT_FOUND */
  inspect(text: string, options: ImageOptions = {}): Inspection {
    const container = this.#containers.find(text)
    return container === undefined ? this.#images.inspect(text, options) : { kind: 'container', container }
  }

  /**
   * Takes a name of an image away; with its last name the image goes, and by `prune` its layers.
   * Returns the digest when the image went. @throws IMAGE_NOT_FOUND, IMAGE_IN_USE
   */
  removeImage(text: string, options: ImageOptions = {}): Digest | undefined {
    return this.#images.remove(text, options)
  }

  /** Removes images without a name that no container uses, and what no image needs; with `all` and `local` more. */
  prune(options: PruneImagesOptions = {}): PruneReport {
    return this.#images.prune(options)
  }

  /** Removes the images that were not used for the longest time, as far as `image_gc_config` says that there is too little room. */
  collectGarbage(options: { readonly dryRun?: boolean } = {}): CollectionReport {
    return this.#images.collectGarbage(options)
  }

  /** Puts right what a crash or a reboot has left. With `known`, all other containers are destroyed. */
  async recover(options: RecoverOptions = {}): Promise<RecoveryReport> {
    return this.#containers.recover(options)
  }

  /**
   * Writes an image, pulled if needed, or a container's root filesystem as it stands, to a file or folder.
   * @throws OUTPUT_EXISTS, USAGE, and what `pull` throws
   */
  async export(image: string, options: ExportOptions & ImageOptions): Promise<void> {
    return this.#containers.export(image, options)
  }

  /**
   * Opens the snapshots of this store, for containerd. With `isRemote`, layers that a client names by labels are brought in by Loam and
   * never unpacked, where this machine can show them. Closed with the store.
   */
  openSnapshotter(options: RemoteLayersOptions & { readonly isRemote: boolean }): Snapshotter {
    const wiring = this.#wiring
    if (!options.isRemote) return wiring.makeSnapshotter()
    const canShow = wiring.provisioner
      .probe()
      .some(({ name, probe }) => name === 'erofs' && probe.isSupported)
    return wiring.makeSnapshotter(createRemoteLayers(wiring, { ...options, canShow }))
  }

  /** Brings in the snapshots of containerd's overlay snapshotter of early 2017, by copying their files. */
  async importSnapshots(folder: string, signal?: AbortSignal): Promise<SnapshotImportReport> {
    return cancelable(signal, `import ${folder}`, async () =>
      importSnapshots(this.openSnapshotter({ isRemote: false }), this.#wiring, folder, signal),
    )
  }

  /** Writes what a snapshot changes on its parent as a layer: a tar with whiteouts, to a new file or `-`. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND, OUTPUT_EXISTS, LAYER_UNSUPPORTED */
  async diffSnapshot(key: string, output: string, options: DiffOptions = {}): Promise<void> {
    await cancelable(options.signal, `diff ${key}`, async () => writeDiff(this.#wiring, key, output, options))
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
    return this.#images.commit(key, name, options)
  }

  /** Uploads an image of the store to a registry, under its own name or another. @throws IMAGE_NOT_FOUND, REGISTRY_*, POLICY_REFUSED, DIGEST_MISMATCH for a name with another digest */
  async push(
    image: string,
    options: ImageOptions & PushOptions & { readonly to?: string | undefined } = {},
  ): Promise<PushedImage> {
    return this.#images.push(image, options)
  }

  /** Tells what images, layers and containers take of the disk. */
  usage(): StoreUsage {
    const { paths, metadata, layers } = this.#wiring
    return measureStore(paths, metadata, layers)
  }

  /** Holds everything in the store against what it ought to be, and with `repair` mends what is broken. */
  async fsck(options: FsckOptions & FetchOptions): Promise<FsckReport> {
    const { paths, metadata, blobs, layers, provisioner } = this.#wiring
    const isStanding = (rootfs: RootfsRecord) => provisioner.isStanding(rootfs)
    const parts = { paths, metadata, blobs, layers, isStanding, ...createRefetch(this.#wiring, options) }
    return cancelable(options.signal, 'check the store', async () => checkStore(parts, options))
  }

  /** Tells what this machine can do, backend by backend, and why not. */
  doctor(): HostReport {
    return reportHost(this.#wiring, this.#containers.runtimePlace())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#wiring[Symbol.asyncDispose]()
  }
}
