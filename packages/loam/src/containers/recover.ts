import type { LayerStack } from '../backends/index.ts'
import type { AdditionalStores } from '../exports/index.ts'
import { throwIfAborted, toLoamError } from '../errors/index.ts'
import { readMountTable } from '../linux/index.ts'
import { parseContainerId, type RootfsRecord } from '../metadata/index.ts'
import type { RecoveryReport } from '../provisioner/index.ts'
import { type FetchOptions, type ImageServices, createRefetch } from '../images/index.ts'
import type { Snapshotter } from '../snapshotter/index.ts'
import type { RecoverOptions } from './requests.ts'

/** The services that recovery uses. */
export interface RecoverServices
  extends Pick<
    ImageServices,
    'layers' | 'metadata' | 'paths' | 'stores' | 'sources' | 'provisioner' | 'reserve'
  > {
  readonly makeSnapshotter: () => Snapshotter
  readonly additionalStores: AdditionalStores
}

/** Cleans up after a crash, and remounts after a reboot or an unmount by someone else: containers, then snapshots, then unfinished work. */
export async function recoverStore(
  services: RecoverServices,
  options: RecoverOptions,
): Promise<RecoveryReport> {
  return services.reserve.freeLater(async () => recoverAll(services, options))
}

async function recoverAll(services: RecoverServices, options: RecoverOptions): Promise<RecoveryReport> {
  const { provisioner, metadata, stores } = services
  const lazy = await resumeLazily(services, options)
  const report = await provisioner.recover({
    known: options.known?.map(parseContainerId),
    signal: options.signal,
    restore: async (rootfs) => findStack(services, rootfs, options),
  })
  const shared =
    metadata.snapshots.ids().size > 0
      ? await services.makeSnapshotter().restoreMounts(options.signal)
      : { restored: [], failed: [] }
  const additional = await services.additionalStores.restore(options.signal)
  // The stores share one area for unfinished work.
  const { swept, failed } = await stores.docker.recover()
  return {
    ...report,
    restored: [...report.restored, ...shared.restored, ...additional.restored],
    poisoned: lazy.poisoned,
    failed: [...lazy.failed, ...report.failed, ...shared.failed, ...additional.failed, ...failed],
    swept: [...report.swept, ...swept],
  }
}

/** Before anything is remounted: what was shown while nothing served it must not stay mounted. */
async function resumeLazily(
  { layers }: Pick<ImageServices, 'layers'>,
  { signal }: RecoverOptions,
): Promise<Pick<RecoveryReport, 'poisoned' | 'failed'>> {
  try {
    const unmounted = await layers.partial.resume(signal)
    const mounted = new Set(readMountTable().map(({ target }) => target))
    // Those that are mounted again were reported before.
    return { poisoned: unmounted.filter((path) => !mounted.has(path)), failed: [] }
  } catch (error) {
    throwIfAborted(signal, 'recover')
    const { message } = toLoamError(error, 'serve partial layers')
    return { poisoned: [], failed: [{ what: 'partial layers', reason: message }] }
  }
}

/** Leases the layers of a root filesystem that must be remounted; a layer that was lost meanwhile is fetched again. */
async function findStack(
  services: Pick<ImageServices, 'layers' | 'metadata' | 'paths' | 'stores' | 'sources'>,
  rootfs: RootfsRecord,
  options: FetchOptions,
): Promise<LayerStack> {
  const { layers } = services
  const { refetchLayer } = createRefetch(services, options)
  for (const diffId of new Set(rootfs.layers)) {
    // By its own digest: the name may refer to another image by now.
    if (!(await layers.isHere(diffId, options.signal))) await refetchLayer(diffId, options.signal)
  }
  // The row of the root filesystem keeps the layers.
  return { chainId: rootfs.chainId, layers: rootfs.layers.map((diffId) => layers.getLazily(diffId)) }
}
