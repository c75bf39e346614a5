import type { Configuration } from '../config/index.ts'
import type { RuntimePaths } from '../containers/index.ts'
import { cancelable } from '../errors/index.ts'
import { createRefetch, type FetchOptions, type ImageServices } from '../images/index.ts'
import {
  checkStore,
  type FsckOptions,
  type FsckProgress,
  type FsckReport,
  measureStore,
  type StoreUsage,
  type UsageParts,
} from '../maintenance/index.ts'
import { hostPlatform, TimeLimit } from '../linux/index.ts'
import type { ClientExamination, NodeReport } from '../nodes/index.ts'
import type { RootfsRecord } from '../metadata/index.ts'
import { describePartialLayers, HandlerClient, type PartialLayerInfo } from '../lazy/index.ts'
import { type Digest, parseDigest } from '../image/index.ts'
import { reportHost } from './host-report.ts'
import type { HostReport } from './results.ts'
import type { StoreServices } from './wiring.ts'

/** How long the handler of partial layers may take to say what it does. */
const STATUS_LIMIT_MS = 5_000

/** The services that `StoreCare` uses. */
export type CareServices = Pick<
  ImageServices,
  | 'activity'
  | 'configuration'
  | 'paths'
  | 'metadata'
  | 'blobs'
  | 'layers'
  | 'retained'
  | 'stores'
  | 'sources'
  | 'provisioner'
> &
  Pick<UsageParts, 'measure'> &
  Pick<StoreServices, 'limited'>

/** Operations on a whole store: its settings, its disk usage, its verification, and a report about the machine. */
export class StoreCare {
  /** The settings in force, with the source of each. */
  readonly configuration: Configuration
  readonly #services: CareServices
  readonly #runtimePaths: RuntimePaths

  /** @internal */
  constructor(services: CareServices, runtimePaths: RuntimePaths) {
    this.configuration = services.configuration
    this.#services = services
    this.#runtimePaths = runtimePaths
  }

  /** Reads from the database, to show that the store answers. It is not a verification, as `fsck` is. @throws system errors */
  async check(): Promise<void> {
    this.#services.metadata.check()
  }

  /** Measures the disk usage of images, layers and containers, in bytes. The store may change meanwhile. */
  async usage(): Promise<StoreUsage> {
    return this.#services.activity.observe('store.usage', {}, async () => measureStore(this.#services))
  }

  /**
   * Verifies everything in the store, and with `repair` refetches or rebuilds what is damaged. On failure, completed repairs stay.
   * @throws CANCELED, CONFIG_INVALID
   */
  async fsck(options: FsckOptions & FetchOptions): Promise<FsckReport> {
    const { repair } = options
    return this.#services.activity.observe('store.fsck', { repair }, async (span) => {
      const onCheck = (what: string) => {
        span.progress({ kind: 'check', what })
        options.onCheck?.(what)
      }
      const onProgress = (progress: FsckProgress) => {
        span.progress({ kind: 'work', ...progress })
        options.onProgress?.(progress)
      }
      const report = await this.#fsck({ ...options, onCheck, onProgress })
      span.set({ problems: report.problems.length, tarBytes: report.checked.tarBytes })
      return report
    })
  }

  async #fsck(options: FsckOptions & FetchOptions): Promise<FsckReport> {
    const { paths, metadata, blobs, layers, retained, provisioner } = this.#services
    const isStanding = (rootfs: RootfsRecord) => provisioner.isStanding(rootfs)
    const isBusy = (id: RootfsRecord['containerId']) => provisioner.isBusy(id)
    const refetch = createRefetch(this.#services, options)
    const parts = { paths, metadata, blobs, layers, retained, isStanding, isBusy, ...refetch }
    return cancelable(options.signal, 'check the store', async () => checkStore(parts, options))
  }

  /**
   * Lists the layers whose data is not all here, with how much is, and why the rest does not come. If the handler of partial layers does not say it, the
   * numbers are those of the disk.
   */
  async partialLayers(): Promise<readonly PartialLayerInfo[]> {
    const { metadata, configuration } = this.#services
    if (metadata.layers.partials().length === 0) return []
    const handler = new HandlerClient(configuration.values.state, async () => undefined)
    // Lists of images and containers show this, and do not fail for it.
    using limit = new TimeLimit(STATUS_LIMIT_MS)
    const status = await handler.status(limit.signal).catch(() => undefined)
    return await describePartialLayers(this.#services, status)
  }

  /**
   * Uses a lazy index again that was denied, since its layer had another diffID than it says. Layers that containers show are filled and verified once
   * more; if the index is wrong, it is denied again. Returns whether it was denied. Repeat it after a failure. @throws DIGEST_INVALID, LAZY_UNAVAILABLE, CANCELED
   */
  async allowIndex(
    indexDigest: string,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<boolean> {
    const { layers, activity } = this.#services
    const digest: Digest = parseDigest(indexDigest)
    return activity.observe('store.allowIndex', { index: digest }, async () =>
      layers.partial.allowIndex(digest, options.signal),
    )
  }

  /** Reports which backends work on this machine, and why the others do not. */
  async doctor(): Promise<HostReport> {
    return reportHost(this.#services, this.#runtimePaths)
  }

  /**
   * Checks the configuration of containerd or Docker on this machine against what the snapshotter needs, and asks the client that runs. It changes
   * nothing. `socket` is that of the snapshots API of `loamd`, `imageSocket` that of its image service; undefined: the default ones.
   */
  async doctorClient(
    options: ClientExamination & {
      readonly socket?: string | undefined
      readonly imageSocket?: string | undefined
    },
  ): Promise<NodeReport> {
    const { root, containerd_socket: containerdSocket, snapshot_mounts: mounts } = this.configuration.values
    // Loaded here, so that opening a store does not wait for it.
    const { examineClient } = await import('../nodes/index.ts')
    const { socket, imageSocket } = options
    const platform = hostPlatform()
    const returnsErofs = mounts === 'erofs'
    return examineClient(options, { root, socket, imageSocket, containerdSocket, returnsErofs, platform })
  }
}
