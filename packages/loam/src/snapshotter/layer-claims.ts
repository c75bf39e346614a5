import { nowMicroseconds } from '../linux/index.ts'
import type { MetadataStore, SnapshotKey, SnapshotRecord } from '../metadata/index.ts'
import type { Place } from './keys.ts'
import { checkLabels, type Labels } from './labels.ts'
import type { RemoteLayers } from './remote-layer.ts'
import type { SnapshotMounts } from './snapshot-mounts.ts'

export interface LayerClaimsOptions {
  /** Undefined: no layer is fetched. */
  readonly remote: RemoteLayers | undefined
  readonly metadata: MetadataStore
  readonly mounts: SnapshotMounts
  /** Finds the committed snapshot of a name. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_INVALID */
  readonly findParent: (parent: SnapshotKey | undefined) => SnapshotRecord | undefined
}

/** Snapshots that are layers which clients name by labels. */
export class LayerClaims {
  readonly #options: LayerClaimsOptions

  constructor(options: LayerClaimsOptions) {
    this.#options = options
  }

  /** Fetches a layer and records it as a committed snapshot, unless there is one of it. Returns false if the client must do it. */
  async claim({ key, parent }: Place, ref: SnapshotKey, labels: Labels): Promise<boolean> {
    const { remote, metadata, mounts, findParent } = this.#options
    const { snapshots } = metadata
    if (remote === undefined || snapshots.find(key) !== undefined) return false
    await remote.admit(labels)
    const known = snapshots.find(ref)
    if (known !== undefined) return known.diffId !== undefined && known.parent === parent
    // A client of another namespace has unpacked it: the caller looks for it by the same label, and finds it.
    if (snapshots.hasLayer(ref, parent)) return true
    const below = findParent(parent)
    const isUnpacked = below !== undefined && below.diffId === undefined
    const layersBelow = below === undefined ? [] : isUnpacked ? undefined : mounts.layersBelow(below.id)
    const layer = await remote.fetch(labels, layersBelow)
    if (layer === undefined) return false
    using _lease = layer.lease
    const named: string = layer.chainId
    if (named !== ref) return false
    return await snapshots.transaction(() => {
      const again = snapshots.find(ref)
      if (again !== undefined) return again.diffId === layer.diffId && again.parent === parent
      // The parent may have been replaced while the layer was fetched.
      if (findParent(parent)?.id !== below?.id) return false
      snapshots.insert({
        key: ref,
        kind: 'committed',
        parentId: below?.id,
        labels: checkLabels(labels),
        createdUs: nowMicroseconds(),
        idMapping: undefined,
        maxBytes: undefined,
        ...layer.usage,
        diffId: layer.diffId,
        chainId: layer.chainId,
      })
      return true
    })
  }
}
