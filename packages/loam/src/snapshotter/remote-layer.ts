import type { ChainId, DiffId } from '../image/index.ts'
import type { FileLock } from '../linux/index.ts'
import type { Labels } from './labels.ts'
import type { SnapshotUsage } from './snapshot-info.ts'

/** A layer that is here, kept by a lease until its snapshot is recorded. */
export interface RemoteLayer {
  readonly diffId: DiffId
  readonly chainId: ChainId
  readonly usage: SnapshotUsage
  readonly lease: FileLock
}

/** What knows the layers that clients name by labels. */
export interface RemoteLayers {
  /** Says no to what may not be used, whether its layers are here or not. @throws POLICY_REFUSED */
  readonly admit: (labels: Labels) => Promise<void>
  /**
   * Fetches the layer that labels name, on the layers below it; undefined to let the client unpack it. @throws NO_SPACE, where the client would fill
   * the same disk
   */
  readonly fetch: (labels: Labels, below: readonly DiffId[]) => Promise<RemoteLayer | undefined>
}
