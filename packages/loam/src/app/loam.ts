import { type ConfigurationInput, readConfiguration } from '../config/index.ts'
import {
  Containers,
  type DestroyOptions,
  type ImageVolume,
  type ProvisionedVolume,
  type VolumeOptions,
  type ProvisionedImage,
  type ProvisionImageOptions,
  type RecoverOptions,
  type RunImageOptions,
} from '../containers/index.ts'
import { openStoreRoot } from '../content/index.ts'
import type { ExportOptions } from '../exports/index.ts'
import {
  type ImageOptions,
  Images,
  type PruneImagesOptions,
  type PruneReport,
  type PulledImage,
  type PushedImage,
  type PushImageOptions,
} from '../images/index.ts'
import type { RecoveryReport } from '../provisioner/index.ts'
import type { Snapshotter } from '../snapshotter/index.ts'
import type { ImageRequest } from '../sources/index.ts'
import { openMetadata } from './open-metadata.ts'
import { type OpenSnapshotterOptions, Snapshots } from './snapshots.ts'
import { StoreCare } from './store-care.ts'
import { Wiring } from './wiring.ts'

/** How a store is opened: the settings, and what of this process Loam may see. */
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
  /** What is done with images. */
  readonly images: Images
  /** What is done with containers and their root filesystems. */
  readonly containers: Containers
  /** What is done with snapshots, as containerd has them. */
  readonly snapshots: Snapshots
  /** The store as a whole: settings, usage, verification, the machine. */
  readonly store: StoreCare
  readonly #wiring: Wiring

  /** @internal Use `openLoam`. */
  constructor(wiring: Wiring) {
    this.#wiring = wiring
    this.images = new Images(wiring)
    this.containers = new Containers(wiring)
    this.snapshots = new Snapshots(wiring, this.images)
    this.store = new StoreCare(wiring, this.containers.runtimePaths())
  }

  /** Short for `images.pull`. */
  async pull(image: string | ImageRequest, options: ImageOptions = {}): Promise<PulledImage> {
    return this.images.pull(image, options)
  }

  /** Short for `images.push`. */
  async push(image: string, options: PushImageOptions = {}): Promise<PushedImage> {
    return this.images.push(image, options)
  }

  /** Short for `containers.provision`. */
  async provision(
    image: string | ImageRequest,
    options: ProvisionImageOptions = {},
  ): Promise<ProvisionedImage> {
    return this.containers.provision(image, options)
  }

  /** Short for `containers.run`. */
  async run(image: string | ImageRequest, options: RunImageOptions = {}): Promise<number> {
    return this.containers.run(image, options)
  }

  /** Short for `containers.destroy`. */
  async destroy(id: string, options: DestroyOptions = {}): Promise<boolean> {
    return this.containers.destroy(id, options)
  }

  /** Short for `containers.export`. */
  async export(name: string, options: ExportOptions & ImageOptions): Promise<void> {
    return this.containers.export(name, options)
  }

  /** Short for `containers.recover`. */
  async recover(options: RecoverOptions = {}): Promise<RecoveryReport> {
    return this.containers.recover(options)
  }

  /** @deprecated Use `containers.provisionVolumes`. Gone in the release after the next. */
  async provisionVolumes(
    volumes: readonly ImageVolume[],
    options: VolumeOptions,
  ): Promise<ProvisionedVolume[]> {
    return this.containers.provisionVolumes(volumes, options)
  }

  /** @deprecated Use `images.prune`. Gone in the release after the next. */
  async prune(options: PruneImagesOptions = {}): Promise<PruneReport> {
    return this.images.prune(options)
  }

  /** @deprecated Use `snapshots.open`. Gone in the release after the next. */
  openSnapshotter(options: OpenSnapshotterOptions = {}): Snapshotter {
    return this.snapshots.open(options)
  }

  /** Closes the store: waits for snapshotters, threads and unfinished removals. No other call may be made afterwards. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#wiring[Symbol.asyncDispose]()
  }
}
