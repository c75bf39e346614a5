import type { Activity } from '../activity/index.ts'
import {
  type Backend,
  bindBackend,
  copyBackend,
  erofsBackend,
  overlayBackend,
  SharedMounts,
  StackMounts,
} from '../backends/index.ts'
import { BlobStore, IngestArea, type StorePaths, StoreReserve } from '../content/index.ts'
import type { ChainId } from '../image/index.ts'
import { LayerStore, WorkerPool } from '../layers/index.ts'
import type { FolderUsage } from '../transform/index.ts'
import { diskUsage, GroupSync, hostPlatform, readBootId } from '../linux/index.ts'
import type { ImageType, MetadataStore } from '../metadata/index.ts'
import { Provisioner } from '../provisioner/index.ts'
import { type RemoteLayers, Snapshotter } from '../snapshotter/index.ts'
import { appcNaming, dockerNaming, type ImageNaming, ImageStore, PolicyEnforcer } from '../stores/index.ts'
import { type Configuration, readSignaturePolicy } from '../config/index.ts'
import { LayerPrefetch, type ReadContents, SourceOpener } from '../images/index.ts'

/** Inodes of a folder that is measured at once; the time of one call to a thread. */
const SMALL_FOLDER = 64

/** What one store is opened with. */
export interface WiringOptions {
  readonly configuration: Configuration
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  /** Where programs are looked up, and proxies and the home folder named. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that relative paths start from; '' for that of this process. */
  readonly cwd: string
  readonly activity: Activity
}

/** The objects of one open store, wired together. Owns threads, the database and a folder for unfinished work. */
export class Wiring implements AsyncDisposable {
  readonly configuration: Configuration
  readonly activity: Activity
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  /** Room for taking things away on a full disk. */
  readonly reserve: StoreReserve
  readonly env: WiringOptions['env']
  readonly cwd: string
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly stores: Readonly<Record<ImageType, ImageStore>>
  readonly provisioner: Provisioner
  /** Whether a signature policy is in force. */
  readonly hasPolicy: boolean
  readonly sources: SourceOpener
  readonly prefetch: LayerPrefetch
  readonly readContents: ReadContents
  readonly #stacks: StackMounts
  readonly #workers = new WorkerPool()
  /** A separate pool, so that a caller who only asks for a size does not wait for layers. */
  readonly #measurer = new WorkerPool(1)
  readonly #sync = new GroupSync(async () => {
    await this.#measurer.run({ kind: 'sync', folder: this.paths.root }, {})
  })
  readonly #snapshotters: Snapshotter[] = []
  #ingest: IngestArea | undefined
  /** Measures the disk usage of a folder: of a large one by a thread. */
  readonly measure = async (folder: string): Promise<FolderUsage> =>
    diskUsage(folder, SMALL_FOLDER) ?? (await this.#measurer.run({ kind: 'measure', folder }))
  readonly ingest = (): IngestArea => (this.#ingest ??= new IngestArea(this.paths))

  constructor({ configuration, paths, metadata, env, cwd, activity }: WiringOptions) {
    const { values } = configuration
    this.configuration = configuration
    this.paths = paths
    this.metadata = metadata
    const reserve = new StoreReserve(paths)
    this.reserve = reserve
    this.env = env
    this.cwd = cwd
    this.activity = activity
    const bootId = readBootId()
    const { ingest } = this
    const limits = {
      depth: values.limit_layer_depth,
      tarBytes: values.limit_layer_bytes,
      entries: values.limit_layer_entries,
      fileBytes: values.limit_file_bytes,
      xattrBytes: values.limit_layer_xattr_bytes,
      ratio: values.limit_layer_ratio,
    }
    const imageLimits = {
      layers: values.limit_image_layers,
      bytes: values.limit_image_bytes,
      manifestBytes: values.limit_manifest_bytes,
      configBytes: values.limit_config_bytes,
      pullMs: values.limit_pull_time,
    }
    const blobs = new BlobStore(paths, imageLimits)
    const layers = new LayerStore({ paths, metadata, workers: this.#workers, ingest, limits, bootId })
    this.readContents = async (diffIds, directory, signal) => {
      const files = diffIds.map((diffId) => layers.artifacts.filesOf(diffId, undefined))
      return this.#measurer.run({ kind: 'contents', layers: files, limits, ...directory }, { signal })
    }
    this.blobs = blobs
    this.layers = layers
    this.sources = new SourceOpener({ values, env, cwd, paths, metadata, blobs, layers })
    const { signature_policy: policyFile } = values
    const { defaultRegistry } = this.sources
    const enforcer =
      policyFile === undefined
        ? undefined
        : new PolicyEnforcer(readSignaturePolicy(policyFile, defaultRegistry), metadata)
    this.hasPolicy = enforcer !== undefined
    const makeStore = (naming: ImageNaming) =>
      new ImageStore({
        paths,
        metadata,
        blobs,
        layers,
        ingest,
        hostPlatform: hostPlatform(),
        naming,
        limits: imageLimits,
        enforcer,
      })
    this.stores = { docker: makeStore(dockerNaming), appc: makeStore(appcNaming) }
    const isUsed = (chainId: ChainId) => metadata.layers.isMountUsed(chainId)
    this.#stacks = new StackMounts(new SharedMounts({ paths, stateFolder: values.state, isUsed }), layers)
    const common = { paths, layers, ingest }
    const backends: readonly Backend[] = [
      erofsBackend({ ...common, stacks: this.#stacks }),
      overlayBackend(common),
      copyBackend(common),
      bindBackend(common),
    ]
    this.provisioner = new Provisioner({ paths, metadata, reserve, backends, bootId })
    this.prefetch = new LayerPrefetch({ sources: this.sources, stores: this.stores, layers })
  }

  /** Creates a snapshotter over this store; `remote` fetches the layers that remote-aware clients name. */
  readonly makeSnapshotter = (remote?: RemoteLayers): Snapshotter => {
    const { paths, metadata, layers, reserve, ingest } = this
    const { values } = this.configuration
    const snapshotter = new Snapshotter({
      paths,
      metadata,
      layers,
      reserve,
      ingest,
      stacks: this.#stacks,
      measure: this.measure,
      sync: async () => this.#sync.wait(),
      upperdirLabel: values.upperdir_label,
      mountOptions: values.mount_options,
      ...(remote === undefined ? {} : { remote }),
    })
    this.#snapshotters.push(snapshotter)
    return snapshotter
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.prefetch[Symbol.asyncDispose]()
    await Promise.all(this.#snapshotters.map(async (snapshotter) => snapshotter.close()))
    // What waits for a thread is refused; what has one and is nearly done, such as noting what is on the disk, ends.
    this.#workers.refuse()
    await this.layers.settle()
    await this.#measurer[Symbol.asyncDispose]()
    await this.#workers[Symbol.asyncDispose]()
    await this.sources.close()
    await this.#ingest?.[Symbol.asyncDispose]()
    this.#ingest = undefined
    this.metadata[Symbol.dispose]()
    this.reserve.fill()
  }
}
