import type { LayerStack } from '../backends/index.ts'
import type { RootfsRecord } from '../metadata/index.ts'
import type { RecoveryReport } from '../provisioner/index.ts'
import type { Parts } from './parts.ts'
import { makeRefetch } from './refetch.ts'
import type { FetchOptions, RecoverOptions } from './requests.ts'

/** Puts right what a crash, a reboot or somebody who has unmounted something has left: containers, then snapshots, then unfinished work. */
export async function recoverStore(parts: Parts, options: RecoverOptions): Promise<RecoveryReport> {
  return parts.reserve.freeLater(async () => recoverAll(parts, options))
}

async function recoverAll(parts: Parts, options: RecoverOptions): Promise<RecoveryReport> {
  const { provisioner, metadata, stores } = parts
  const report = await provisioner.recover({
    known: options.known,
    signal: options.signal,
    restore: async (rootfs) => findStack(parts, rootfs, options),
  })
  const shared =
    metadata.snapshots.ids().size > 0
      ? await parts.makeSnapshotter().restoreMounts(options.signal)
      : { restored: [], failed: [] }
  // The stores have one area for what is unfinished.
  const { swept, failed } = stores.docker.recover()
  return {
    ...report,
    restored: [...report.restored, ...shared.restored],
    failed: [...report.failed, ...shared.failed, ...failed],
    swept: [...report.swept, ...swept],
  }
}

/** The layers of a root filesystem that has to be mounted again; a layer that was lost meanwhile is fetched again. */
async function findStack(parts: Parts, rootfs: RootfsRecord, options: FetchOptions): Promise<LayerStack> {
  const { layers } = parts
  const { refetchLayer } = makeRefetch(parts, options)
  for (const diffId of new Set(rootfs.layers)) {
    // By its own digest: the name may stand for another image by now.
    if (!(await layers.isHere(diffId, options.signal))) await refetchLayer(diffId, options.signal)
  }
  // The row of the root filesystem keeps the layers.
  return { chainId: rootfs.chainId, layers: rootfs.layers.map((diffId) => layers.get(diffId)) }
}
