import type { ChainId, DiffId } from '../image/index.ts'
import type { Labels } from './labels.ts'
import type { SnapshotUsage } from './snapshot-info.ts'

/** A layer in the store, kept by a lease until its snapshot is recorded. */
export interface RemoteLayer {
  readonly diffId: DiffId
  readonly chainId: ChainId
  readonly usage: SnapshotUsage
  readonly lease: Disposable
}

/** The source of layers that clients name by labels. */
export interface RemoteLayers {
  /** Refuses a layer that the policy forbids, whether or not it is in the store. @throws POLICY_REFUSED */
  readonly admit: (labels: Labels) => Promise<void>
  /**
   * Fetches the layer that labels name, on the layers below it, which are undefined if one of them is unpacked. Returns undefined to let the client
   * unpack it. @throws NO_SPACE, since the client would fill the same disk
   */
  readonly fetch: (labels: Labels, below: readonly DiffId[] | undefined) => Promise<RemoteLayer | undefined>
}
