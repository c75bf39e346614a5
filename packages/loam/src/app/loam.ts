import { Activity } from '../activity/index.ts'
import { type ConfigurationInput, readConfiguration, SETTINGS } from '../config/index.ts'
import {
  Containers,
  type DestroyOptions,
  type MountedVolume,
  type ProvisionedVolume,
  type VolumeOptions,
  type ProvisionedImage,
  type ProvisionImageOptions,
  type RecoverOptions,
  type RunImageOptions,
} from '../containers/index.ts'
import { lockPath, openStoreRoot } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { checkOptionNames } from '../options/index.ts'
import type { ExportOptions } from '../exports/index.ts'
import {
  type ImageOptions,
  Images,
  type PruneImagesOptions,
  type PruneReport,
  type PulledImage,
  type PullImageOptions,
  type PushedImage,
  type PushImageOptions,
} from '../images/index.ts'
import { HandlerClient, type LazyStatus } from '../lazy/index.ts'
import { FileLock } from '../linux/index.ts'
import type { SnapshotKind } from '../metadata/index.ts'
import type { RecoveryReport } from '../provisioner/index.ts'
import type { ImageReference } from '../image/index.ts'
import type { CredentialSource, PodTokens } from '../registry/index.ts'
import type { Snapshotter } from '../snapshotter/index.ts'
import type { ImageRequest } from '../sources/index.ts'
import type { FolderUsage } from '../transform/index.ts'
import { openMetadata } from '../metadata/index.ts'
import { OpenCalls } from './open-calls.ts'
import { type OpenSnapshotterOptions, Snapshots } from './snapshots.ts'
import { StoreCare } from './store-care.ts'
import type { Threads } from './threads.ts'
import { type Caller, type StoreServices, Wiring } from './wiring.ts'

const OPEN_OPTIONS: readonly (keyof LoamOptions)[] = [
  'settings',
  'flags',
  'env',
  'file',
  'cwd',
  'userId',
  'activity',
  'signal',
]

type OpenForCaller = (caller: LoamOptions) => Promise<Loam>

/** How to open a store: the settings, and the environment that Loam may read. */
export interface LoamOptions extends ConfigurationInput {
  /** Environment with the path of programs, the proxies and the home folder: usually `process.env` of the caller. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Observers of operations; several stores may share it. Undefined: one for this store. */
  readonly activity?: Activity | undefined
  /** Stops waiting for other processes that are opening the same store. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Opens a store, and creates it if it does not exist. Close it by `await using`. @throws CONFIG_INVALID, STORE_*, PERMISSION_DENIED, READ_ONLY,
 * NO_SPACE
 */
export async function openLoam(options: LoamOptions = {}): Promise<Loam> {
  checkOptionNames('openLoam', options, OPEN_OPTIONS, (name) =>
    Object.hasOwn(SETTINGS, name) ? `It is a setting: openLoam({ settings: { ${name}: … } })` : undefined,
  )
  return openWith(options)
}

async function openWith(options: LoamOptions, shared?: Threads): Promise<Loam> {
  const configuration = readConfiguration(options)
  const paths = openStoreRoot(configuration.values.root, configuration.values.state)
  const metadata = await openMetadata(paths, options.signal)
  const { env = {}, cwd = '', activity = new Activity() } = options
  const wiring = new Wiring({ configuration, paths, metadata, env, cwd, activity, threads: shared })
  return new Loam(wiring, async (caller) => {
    const services = wiring.viewFor(callerOf(caller))
    return services === undefined ? openWith({ ...caller, activity }, wiring.threads) : new Loam(services)
  })
}

function callerOf({ env = {}, cwd = '', ...input }: LoamOptions): Caller {
  return { configuration: readConfiguration({ ...input, env, cwd }), env, cwd }
}

/**
 * An open store: images, and root filesystems created from them. Each property has the operations on one kind of object; the methods of `Loam` itself
 * are shortcuts for the most common calls. Images are named as a user writes them (`debian:12`, `oci:DIR:TAG`), or by a request as frameworks send
 * it.
 *
 * All calls may be made concurrently, also by several processes on the same store: locks of the kernel serialise what must not overlap, and are
 * released when a process is killed. Calls fail with a `LoamError`; match its `code`. Calls that take a `signal` fail with CANCELED when it fires,
 * and leave nothing unfinished behind.
 *
 * Create a root filesystem, and remove it. It stays after this process ends, until it is destroyed:
 *
 * ```ts
 * import { openLoam } from 'loamfs'
 *
 * await using loam = await openLoam({ settings: { root: '/var/lib/loam' }, env: process.env })
 * const { digest } = await loam.pull('debian:12')
 * const { rootfsPath } = await loam.provision('debian:12', { id: 'web' })
 * console.log(digest, rootfsPath)
 * await loam.destroy('web')
 * ```
 *
 * Run a process with runc, and wait at most a minute for the image. The root filesystem is removed when the process ends:
 *
 * ```ts
 * import { isLoamError, openLoam } from 'loamfs'
 *
 * await using loam = await openLoam({ settings: { root: '/var/lib/loam' }, env: process.env })
 * try {
 *   const status = await loam.run('debian:12', {
 *     command: ['echo', 'hello'],
 *     signal: AbortSignal.timeout(60_000),
 *     onEvent: ({ kind }) => console.error(kind),
 *   })
 *   console.log('ended with', status)
 * } catch (error) {
 *   if (!isLoamError(error, 'IMAGE_NOT_FOUND', 'CANCELED')) throw error
 *   console.error(error.message, error.hint)
 * }
 * ```
 *
 * Build an image: change a container's files, commit them as a layer, then push the image and write it to an OCI layout:
 *
 * ```ts
 * import { writeFile } from 'node:fs/promises'
 * import { openLoam } from 'loamfs'
 *
 * await using loam = await openLoam({ settings: { root: '/var/lib/loam' }, env: process.env })
 * const { rootfsPath } = await loam.provision('debian:12', { id: 'build' })
 * await writeFile(`${rootfsPath}/motd`, 'made by a program')
 * await loam.images.commit('build', 'registry.example.com/web:2')
 * await loam.destroy('build')
 * const { digest } = await loam.push('registry.example.com/web:2')
 * await loam.export('registry.example.com/web:2', { format: 'oci', output: './layout' })
 * console.log(digest)
 * ```
 *
 * Keep snapshots as containerd does. The caller mounts what `prepare` returns; here it is a bind mount, whose source is used directly:
 *
 * ```ts
 * import { writeFile } from 'node:fs/promises'
 * import { openLoam } from 'loamfs'
 *
 * await using loam = await openLoam({ settings: { root: '/var/lib/loam' }, env: process.env })
 * const snapshotter = loam.snapshots.open()
 * const [mount] = await snapshotter.prepare('unpack', '')
 * await writeFile(`${mount?.source}/hello`, 'a file of the first layer')
 * await snapshotter.commit({ name: 'layer', key: 'unpack' })
 * await loam.snapshots.diff('layer', 'layer.tar')
 * await loam.snapshots.commit('layer', 'hello:1')
 * await snapshotter.remove('layer')
 * console.log((await loam.images.list()).map(({ names }) => names))
 * ```
 */
export class Loam implements AsyncDisposable {
  /** Operations on images. */
  readonly images: Images
  /** Operations on containers and their root filesystems. */
  readonly containers: Containers
  /** Operations on snapshots, as in containerd. */
  readonly snapshots: Snapshots
  /** The operations on this store: subscribe to get an event when one begins, progresses and ends. */
  readonly activity: Activity
  /** The store as a whole: settings, usage, verification, the machine. */
  readonly store: StoreCare
  readonly #services: StoreServices
  readonly #forCaller: OpenForCaller | undefined
  readonly #calls = new OpenCalls()

  /** @internal Use `openLoam`. */
  constructor(services: StoreServices, forCaller?: OpenForCaller) {
    this.#services = services
    this.#forCaller = forCaller
    this.activity = services.activity
    const images = new Images(services)
    const containers = new Containers(services)
    this.images = this.#calls.guard(images)
    this.containers = this.#calls.guard(containers, ['files', 'processes'])
    this.snapshots = this.#calls.guard(new Snapshots(services, images))
    this.store = this.#calls.guard(new StoreCare(services, containers.runtimePaths()))
  }

  /**
   * @internal
   * Returns this store for a caller with an environment, a directory and sources of settings of its own. Its work is done by the threads of this
   * store, even if the caller's settings require a separate store; it is disposed of before this store. @throws as `openLoam`
   */
  async forCaller(caller: LoamOptions): Promise<Loam> {
    if (this.#forCaller !== undefined) return this.#forCaller(caller)
    throw new LoamError('INTERNAL', 'open the store for a caller: it is that of a caller already')
  }

  /** @internal Returns what the threads of this store have to do now, by pool. */
  threadLoad(): Threads['load'] {
    return this.#services.threads.load
  }

  /** @internal Measures the disk usage of a volume; that of a large one may be some seconds old. */
  async measureVolume(path: string, signal: AbortSignal): Promise<FolderUsage> {
    return this.#services.threads.volumeMeasures.of(path, signal)
  }

  /** @internal From now on the lazy indexes of pulled images are made while nobody waits for them: closing the store ends that. */
  indexInBackground(): void {
    this.#services.indexAfterPull.runInBackground()
  }

  /** @internal Returns the credentials of requests without their own, or of those for a pod. */
  configuredCredentials(tokens?: PodTokens): CredentialSource {
    return this.#services.sources.configuredCredentials(tokens)
  }

  /** @internal Returns whether the tokens of a pod may decide which credentials there are for an image. */
  async takesPodTokens(image: ImageReference): Promise<boolean> {
    return this.#services.sources.takesPodTokens(image)
  }

  /** @internal Waits for a lock that one holder has at a time, in any process with this store; its file is removed with it. @throws CANCELED */
  async lock(kind: string, name: string, signal: AbortSignal): Promise<Disposable> {
    const { paths, reserve } = this.#services
    using stack = new DisposableStack()
    const path = lockPath(paths, kind, name)
    const lock = stack.use(await reserve.freeQuickly(async () => FileLock.acquire(path, { signal })))
    stack.defer(() => {
      lock.remove()
    })
    return stack.move()
  }

  /** @internal Returns what the process that fills partial layers does; undefined if none runs. @throws LAZY_UNAVAILABLE */
  async lazyStatus(): Promise<LazyStatus | undefined> {
    const { state } = this.#services.configuration.values
    return new HandlerClient(state, async () => undefined).status()
  }

  /** @internal Counts the images, without a look at their documents. */
  imageCount(): number {
    return this.#services.metadata.images.count()
  }

  /** @internal Lists the IDs of the containers, without a look at their root filesystems. */
  containerIds(): readonly string[] {
    return this.#services.provisioner.ids()
  }

  /** @internal Counts the snapshots of each kind. */
  snapshotCounts(): Readonly<Record<SnapshotKind, number>> {
    return this.#services.metadata.snapshots.counts()
  }

  /** Short for `images.pull`. */
  async pull(image: string | ImageRequest, options: PullImageOptions = {}): Promise<PulledImage> {
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
    volumes: readonly MountedVolume[],
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

  /**
   * Closes the store: ends the processes that `spawn` has started, and waits for calls in progress, which their signals cancel, for snapshotters and
   * for unfinished removals. Later calls fail with USAGE.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#calls.close()
    await this.#services[Symbol.asyncDispose]()
  }
}
