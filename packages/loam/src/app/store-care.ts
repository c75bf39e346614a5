import type { Configuration } from '../config/index.ts'
import type { RuntimePaths } from '../containers/index.ts'
import { cancelable } from '../errors/index.ts'
import { createRefetch, type FetchOptions, type ImageServices } from '../images/index.ts'
import {
  checkStore,
  type FsckOptions,
  type FsckReport,
  measureStore,
  type StoreUsage,
  type UsageParts,
} from '../maintenance/index.ts'
import type { RootfsRecord } from '../metadata/index.ts'
import { reportHost } from './host-report.ts'
import type { HostReport } from './results.ts'

/** What the care of a store takes. */
export type CareServices = Pick<
  ImageServices,
  'configuration' | 'paths' | 'metadata' | 'blobs' | 'layers' | 'stores' | 'sources' | 'provisioner'
> &
  Pick<UsageParts, 'measure'>

/** One store as a whole: its settings, what it takes of the disk, whether it is sound, and what its machine can do. */
export class StoreCare {
  /** The settings in force, with where each came from. */
  readonly configuration: Configuration
  readonly #services: CareServices
  readonly #runtimePaths: RuntimePaths

  /** @internal */
  constructor(services: CareServices, runtimePaths: RuntimePaths) {
    this.configuration = services.configuration
    this.#services = services
    this.#runtimePaths = runtimePaths
  }

  /** Measures what images, layers and containers take of the disk, in bytes. Others may change the store meanwhile. */
  async usage(): Promise<StoreUsage> {
    return measureStore(this.#services)
  }

  /**
   * Verifies everything in the store, and with `repair` refetches or rebuilds what is damaged. What was repaired stays so on failure.
   * @throws CANCELED, CONFIG_INVALID
   */
  async fsck(options: FsckOptions & FetchOptions): Promise<FsckReport> {
    const { paths, metadata, blobs, layers, provisioner } = this.#services
    const isStanding = (rootfs: RootfsRecord) => provisioner.isStanding(rootfs)
    const parts = { paths, metadata, blobs, layers, isStanding, ...createRefetch(this.#services, options) }
    return cancelable(options.signal, 'check the store', async () => checkStore(parts, options))
  }

  /** Reports what this machine can do, backend by backend, and why not. */
  async doctor(): Promise<HostReport> {
    return reportHost(this.#services, this.#runtimePaths)
  }
}
