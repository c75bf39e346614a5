import { LoamError } from '../errors/index.ts'
import type { ChainId, DiffId } from '../image/index.ts'
import { nowMicroseconds } from '../linux/index.ts'
import type { MetadataStore, SnapshotRecord } from '../metadata/index.ts'
import { SNAPSHOT_REF } from './labels.ts'
import type { SnapshotDirectories } from './snapshot-directories.ts'
import type { SnapshotUsage } from './snapshot-info.ts'

/** The name that a client gives the snapshot of a layer, behind the namespace and a number. */
const LAYER_NAME = /(?:^|\/)(sha256:[0-9a-f]{64})$/

/** A layer of an image, in the store and on the disk, with the stack that it is the top of. */
export interface AdoptedLayer {
  readonly diffId: DiffId
  readonly chainId: ChainId
  readonly usage: SnapshotUsage
}

/**
 * Turns the committed snapshots that clients have unpacked the layers of an image to into these layers, base first, and returns their names. Their own names,
 * parents and labels stay. A snapshot on a parent that is unpacked stays unpacked. The directories stay for those who have mounted them.
 */
export async function adoptLayers(
  { snapshots }: MetadataStore,
  layers: readonly AdoptedLayer[],
): Promise<string[]> {
  return snapshots.transaction(() => {
    const unpacked = findUnpacked(snapshots.list())
    const adopted: string[] = []
    let below: ChainId | undefined
    for (const layer of layers) {
      for (const { id, key } of unpacked.get(layer.chainId) ?? []) {
        if (!isOnStack(snapshots.chain(id)[1], below)) continue
        snapshots.becomeLayer(id, { ...layer, ...layer.usage, updatedUs: nowMicroseconds() })
        adopted.push(key)
      }
      below = layer.chainId
    }
    return adopted
  })
}

/** Finds the unpacked snapshots of each stack of layers. Files with the IDs of a user namespace are not those of a layer. */
function findUnpacked(all: Iterable<SnapshotRecord>): Map<string, SnapshotRecord[]> {
  const found = new Map<string, SnapshotRecord[]>()
  for (const snapshot of all) {
    if (snapshot.kind !== 'committed' || snapshot.diffId !== undefined || snapshot.idMapping !== undefined)
      continue
    const name = LAYER_NAME.exec(snapshot.key)?.[1] ?? snapshot.labels[SNAPSHOT_REF]
    if (name === undefined) continue
    const same = found.get(name)
    if (same === undefined) found.set(name, [snapshot])
    else same.push(snapshot)
  }
  return found
}

function isOnStack(parent: SnapshotRecord | undefined, below: ChainId | undefined): boolean {
  if (below === undefined) return parent === undefined
  return parent?.diffId !== undefined && parent.chainId === below
}

/** Removes the directories of snapshots that became layers, unless a snapshot that is older than that may be mounted over them. */
export function discardAdopted({ snapshots }: MetadataStore, directories: SnapshotDirectories): void {
  const names = new Set(directories.names())
  for (const id of snapshots.layers()) {
    if (!names.has(String(id)) || snapshots.hasOlderUser(id)) continue
    directories.discard(directories.of(id))
  }
}

/** @throws SNAPSHOT_NOT_FOUND */
export function requireAdopted(adopted: readonly string[], image: string): void {
  if (adopted.length > 0) return
  throw new LoamError('SNAPSHOT_NOT_FOUND', `adopt ${image}: no snapshot of it is unpacked`, {
    hint: '`loam snapshot list` lists snapshots. Their layers are compared, and not the names of images.',
  })
}
