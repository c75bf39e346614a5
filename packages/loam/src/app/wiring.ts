import { isDeepStrictEqual } from 'node:util'
import type { Activity } from '../activity/index.ts'
import {
  type Backend,
  bindBackend,
  copyBackend,
  erofsBackend,
  LimitedFolders,
  overlayBackend,
  StackMounts,
} from '../backends/index.ts'
import { BlobStore, IngestArea, RetainedBlobs, type StorePaths, StoreReserve } from '../content/index.ts'
import { DirectoryInThread, LayerStore, type LazyParts } from '../layers/index.ts'
import { HandlerClient, keepProbe, probeLazy, startHandler, tellDenied, whyNoReads } from '../lazy/index.ts'
import { readIndexedBlob } from '../lazy-index/index.ts'
import type { FolderUsage } from '../transform/index.ts'
import type { LayerLimits } from '../tree/index.ts'
import { AdditionalStores } from '../exports/index.ts'
import { GroupSync, hostPlatform, readBootId, searchPath } from '../linux/index.ts'
import type { ImageType, MetadataStore } from '../metadata/index.ts'
import { Provisioner } from '../provisioner/index.ts'
import { type RemoteLayers, Snapshotter } from '../snapshotter/index.ts'
import {
  appcNaming,
  dockerNaming,
  findLazyIndexes,
  type ImageNaming,
  ImageStore,
  type ImageStoreOptions,
  type LazyIndexRules,
  PolicyEnforcer,
  trustsStill,
} from '../stores/index.ts'
import {
  type Configuration,
  layerLimits,
  type ReadPolicy,
  readSignaturePolicy,
  type SettingName,
  type Settings,
} from '../config/index.ts'
import {
  ImageSessions,
  IndexAfterPull,
  LayerPrefetch,
  type ReadContents,
  type TreeReader,
  SourceOpener,
} from '../images/index.ts'
import { measureFolder } from './shared-measures.ts'
import { Threads } from './threads.ts'

/** Settings of the shared parts of an open store. Each caller has its own values of all others. */
const SHARED_SETTINGS = [
  'root',
  'state',
  'signature_policy',
  'limit_layer_depth',
  'limit_layer_bytes',
  'limit_layer_entries',
  'limit_file_bytes',
  'limit_layer_xattr_bytes',
  'limit_layer_ratio',
  'limit_image_layers',
  'limit_image_bytes',
  'limit_manifest_bytes',
  'limit_config_bytes',
  'limit_pull_time',
  'size_reservation',
  'blob_retention',
  'blob_retention_time',
  'blob_retention_size',
  'lazy_index',
  'lazy_index_dir',
  'lazy_trust',
] as const satisfies readonly SettingName[]

type SharedSettings = Pick<Settings, (typeof SHARED_SETTINGS)[number]>

/** The caller that a store is open for. */
export interface Caller {
  readonly configuration: Configuration
  /** Environment with the path of programs, the proxies and the home directory. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that relative paths start from; '' for that of this process. */
  readonly cwd: string
}

/** How to open one store. */
export interface WiringOptions extends Caller {
  readonly activity: Activity
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  /** Threads of another open store, which is disposed of later. Undefined: threads of its own. */
  readonly threads?: Threads | undefined
}

/** The services that operations on an open store use. */
export type StoreServices = Pick<Wiring, Exclude<keyof Wiring, 'viewFor'>>

/** The objects of one open store, wired together. Owns threads, the database and a directory for unfinished work. */
export class Wiring implements AsyncDisposable {
  readonly configuration: Configuration
  readonly activity: Activity
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  /** Reserve of space for removals on a full disk. */
  readonly reserve: StoreReserve
  readonly env: WiringOptions['env']
  readonly cwd: string
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly retained: RetainedBlobs
  readonly stores: Readonly<Record<ImageType, ImageStore>>
  readonly provisioner: Provisioner
  readonly additionalStores: AdditionalStores
  readonly limited: LimitedFolders
  /** Whether a signature policy is in force. */
  readonly hasPolicy: boolean
  readonly #policyFingerprint: string | undefined
  /** Sources that are read for longer than the request that opened them. */
  readonly #closing = new Set<Promise<void>>()
  readonly sources: SourceOpener
  readonly sessions: ImageSessions
  readonly prefetch: LayerPrefetch
  /** Makes lazy indexes of images that were pulled. */
  readonly indexAfterPull: IndexAfterPull
  readonly readContents: ReadContents
  readonly trees: TreeReader
  readonly #stacks: StackMounts
  readonly #bootId: string
  readonly threads: Threads
  readonly #ownsThreads: boolean
  readonly #sync = new GroupSync(async () => {
    await this.threads.syncer.run({ kind: 'sync', folder: this.paths.root }, {})
  })
  readonly #snapshotters: Snapshotter[] = []
  #ingest: IngestArea | undefined
  /** Measures the disk usage of a directory: of a large one in a thread. */
  readonly measure = async (folder: string): Promise<FolderUsage> =>
    measureFolder(this.threads.measurer, folder)
  readonly ingest = (): IngestArea => (this.#ingest ??= new IngestArea(this.paths))

  constructor({ configuration, paths, metadata, env, cwd, activity, threads }: WiringOptions) {
    const values: SharedSettings = configuration.values
    this.configuration = configuration
    this.paths = paths
    this.metadata = metadata
    const reserve = new StoreReserve(paths)
    this.reserve = reserve
    this.env = env
    this.cwd = cwd
    this.activity = activity
    this.#ownsThreads = threads === undefined
    this.threads = threads ?? new Threads()
    const { workers, writers } = this.threads
    const bootId = readBootId()
    const { ingest } = this
    const limits = layerLimits(values)
    const imageLimits = imageLimitsOf(values)
    const blobs = new BlobStore(paths, imageLimits)
    const retained = createRetainedBlobs(paths, values)
    const { lazy_index: makesIndexes, lazy_index_dir: shared } = configuration.values
    const indexDirectory = shared === undefined ? undefined : new DirectoryInThread(shared, workers)
    const layers = new LayerStore({
      ...{ paths, metadata, workers, writers, ingest, limits, bootId, retained },
      lazyIndex: makesIndexes !== 'off',
      indexDirectory,
      lazy: createLazyParts({ configuration, env, cwd }, ingest, activity),
    })
    this.readContents = async (diffIds, directory, signal) => {
      const files = diffIds.map((diffId) => layers.artifacts.filesOf(diffId, undefined))
      return this.threads.measurer.run({ kind: 'contents', layers: files, limits, ...directory }, { signal })
    }
    this.trees = treeReader(this.threads, limits)
    this.blobs = blobs
    this.layers = layers
    this.retained = retained
    this.sources = this.#createSources({ configuration, env, cwd })
    const read = readPolicyOf(configuration, this.sources)
    const enforcer = read === undefined ? undefined : new PolicyEnforcer(read.policy, metadata)
    this.hasPolicy = enforcer !== undefined
    this.#policyFingerprint = read?.fingerprint
    const indexes = indexFinder(values.lazy_trust, { directory: indexDirectory, enforcer, metadata })
    this.indexAfterPull = new IndexAfterPull({ configuration, activity, metadata, blobs, layers, retained })
    const { begin: onPulled } = this.indexAfterPull
    const makeStore = (naming: ImageNaming) =>
      new ImageStore({
        paths,
        metadata,
        blobs,
        layers,
        retained,
        ingest,
        hostPlatform: hostPlatform(),
        naming,
        limits: imageLimits,
        enforcer,
        ...indexes,
        onPulled,
      })
    this.stores = { docker: makeStore(dockerNaming), appc: makeStore(appcNaming) }
    this.#stacks = new StackMounts({ paths, metadata, layers, stateFolder: values.state })
    const { size_reservation: reserves } = values
    this.limited = new LimitedFolders({ paths, searchPath: searchPath(env), reserves })
    this.#bootId = bootId
    const common = { paths, layers, ingest, limited: this.limited }
    const erofs = erofsBackend({ ...common, stacks: this.#stacks })
    const stacks = this.#stacks
    this.additionalStores = new AdditionalStores({ paths, metadata, layers, blobs, stacks, erofs })
    const backends: readonly Backend[] = [
      erofs,
      overlayBackend(common),
      copyBackend(common),
      bindBackend(common),
    ]
    this.provisioner = new Provisioner({ paths, metadata, layers, reserve, backends, bootId })
    this.sessions = new ImageSessions(this.sources)
    const { values: settings } = configuration
    this.prefetch = new LayerPrefetch({ stores: this.stores, layers, settings, onPulled })
  }

  /**
   * Returns the same open store for a caller with an environment and a directory of its own: threads, locks and unfinished work are shared, and
   * settings, credentials, proxies and programs are the caller's. Undefined if a setting of the shared parts differs. @throws CONFIG_INVALID
   */
  viewFor(caller: Caller): StoreServices | undefined {
    const { configuration } = this
    const { values } = caller.configuration
    const isShared = SHARED_SETTINGS.every((name) =>
      isDeepStrictEqual(values[name], configuration.values[name]),
    )
    if (!isShared) return undefined
    const sources = this.#createSources(caller)
    // The policy is in a file, which may have changed.
    if (readPolicyOf(caller.configuration, sources)?.fingerprint !== this.#policyFingerprint) return undefined
    const snapshotters: Snapshotter[] = []
    return {
      ...servicesOf(this),
      ...caller,
      sources,
      makeSnapshotter: (remote) => {
        const snapshotter = this.#createSnapshotter(caller.configuration, remote)
        snapshotters.push(snapshotter)
        return snapshotter
      },
      [Symbol.asyncDispose]: async () => {
        await Promise.all(snapshotters.map(async (snapshotter) => snapshotter.close()))
      },
    }
  }

  #createSources({ configuration, env, cwd }: Caller): SourceOpener {
    const { paths, metadata, blobs, layers } = this
    const { values, userId } = configuration
    return new SourceOpener({
      values,
      userId,
      env,
      cwd,
      paths,
      metadata,
      blobs,
      layers,
      closing: this.#closing,
    })
  }

  /** Creates a snapshotter over this store; `remote` fetches the layers that remote-aware clients name. */
  readonly makeSnapshotter = (remote?: RemoteLayers): Snapshotter => {
    const snapshotter = this.#createSnapshotter(this.configuration, remote)
    this.#snapshotters.push(snapshotter)
    return snapshotter
  }

  #createSnapshotter({ values }: Configuration, remote: RemoteLayers | undefined): Snapshotter {
    const { activity, paths, metadata, layers, reserve, ingest } = this
    return new Snapshotter({
      activity,
      paths,
      metadata,
      layers,
      reserve,
      ingest,
      stacks: this.#stacks,
      limited: this.limited,
      bootId: this.#bootId,
      measure: this.measure,
      canShow: () =>
        this.provisioner.probe().some(({ name, probe }) => name === 'erofs' && probe.isSupported),
      sync: async () => this.#sync.wait(),
      upperdirLabel: values.upperdir_label,
      mountOptions: values.mount_options,
      returnsErofs: values.snapshot_mounts === 'erofs',
      ...(remote === undefined ? {} : { remote }),
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.indexAfterPull[Symbol.asyncDispose]()
    await this.prefetch[Symbol.asyncDispose]()
    await this.sessions[Symbol.asyncDispose]()
    await Promise.all(this.#snapshotters.map(async (snapshotter) => snapshotter.close()))
    // Work that waits for a thread is refused; short work in a thread, such as recording synced files, is completed.
    if (this.#ownsThreads) this.threads.refuse()
    this.layers.partial.close()
    await this.layers.settle()
    if (this.#ownsThreads) await this.threads[Symbol.asyncDispose]()
    await Promise.all(this.#closing)
    await this.#ingest?.[Symbol.asyncDispose]()
    this.#ingest = undefined
    this.metadata[Symbol.dispose]()
    this.reserve.fill()
  }
}

/** The handler of partial layers is started with what the first caller has that needs it. */
function createLazyParts(
  { configuration, env, cwd }: Caller,
  ingest: () => IngestArea,
  activity: Activity,
): LazyParts {
  const { values, userId } = configuration
  const start = async () => startHandler({ values, userId, env, cwd })
  return {
    filler: new HandlerClient(values.state, start, (denied) => void tellDenied(activity, denied)),
    whyNever: whyNoReads,
    whyNot: keepProbe(async () => probeLazy(ingest().newPath('lazy'))),
  }
}

/** The limits of images. */
function imageLimitsOf(values: SharedSettings) {
  return {
    layers: values.limit_image_layers,
    bytes: values.limit_image_bytes,
    manifestBytes: values.limit_manifest_bytes,
    configBytes: values.limit_config_bytes,
    pullMs: values.limit_pull_time,
  }
}

/** Returns the search for lazy indexes that the settings trust, and what they say of those that were found before. */
function indexFinder(
  trust: LazyIndexRules['trust'],
  parts: Pick<LazyIndexRules, 'directory'> & {
    readonly enforcer: PolicyEnforcer | undefined
    readonly metadata: MetadataStore
  },
): Pick<ImageStoreOptions, 'findIndexes' | 'trustsStill'> {
  const { directory, enforcer, metadata } = parts
  const rules: LazyIndexRules = {
    trust,
    directory,
    enforcer,
    denialOf: (index) => metadata.layers.denialOf(index),
    readIndex: readIndexedBlob,
  }
  return {
    findIndexes: async (source, image, request) => findLazyIndexes(source, image, rules, request),
    trustsStill: (known, source, request) => trustsStill(known, source, rules, request),
  }
}

function createRetainedBlobs(paths: StorePaths, values: SharedSettings): RetainedBlobs {
  return new RetainedBlobs(paths, {
    mode: values.blob_retention,
    maxAgeMs: values.blob_retention_time,
    maxBytes: values.blob_retention_size,
  })
}

function readPolicyOf({ values }: Configuration, { defaultRegistry }: SourceOpener): ReadPolicy | undefined {
  const { signature_policy: file } = values
  return file === undefined ? undefined : readSignaturePolicy(file, defaultRegistry)
}

function servicesOf(wiring: Wiring): Omit<StoreServices, typeof Symbol.asyncDispose> {
  const { configuration, paths, metadata, reserve, env, cwd, activity, blobs, layers, stores, retained } =
    wiring
  const {
    provisioner,
    additionalStores,
    limited,
    hasPolicy,
    sources,
    sessions,
    prefetch,
    indexAfterPull,
    measure,
    readContents,
    trees,
    ingest,
    makeSnapshotter,
  } = wiring
  const { threads } = wiring
  return {
    configuration,
    paths,
    metadata,
    reserve,
    env,
    cwd,
    activity,
    blobs,
    layers,
    retained,
    stores,
    provisioner,
    additionalStores,
    limited,
    hasPolicy,
    sources,
    sessions,
    prefetch,
    indexAfterPull,
    measure,
    readContents,
    trees,
    ingest,
    makeSnapshotter,
    threads,
  }
}

function treeReader({ measurer }: Threads, limits: LayerLimits): TreeReader {
  return {
    report: async (request, signal) => measurer.run({ kind: 'report', limits, ...request }, { signal }),
    compare: async (request, signal) => measurer.run({ kind: 'compare', limits, ...request }, { signal }),
  }
}
