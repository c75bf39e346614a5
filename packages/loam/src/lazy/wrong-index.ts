import { LoamError } from '../errors/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import type { DeniedLayer } from './protocol.ts'
import { report } from './report.ts'
import type { ServedLayer } from './served-layer.ts'

/** Creates the error for a layer whose lazy index has turned out to be wrong. */
export function wrongIndex({ diffId, source }: ServedLayer, why: string): LoamError {
  return new LoamError(
    'LAYER_DAMAGED',
    `verify layer ${diffId}: its lazy index ${source.indexDigest} is wrong: ${why}`,
  )
}

/** Denies the index of a layer from now on, and reports who shows the layer. */
export async function denyIndex(
  { diffId, source }: ServedLayer,
  failure: LoamError,
  reason: string,
  metadata: MetadataStore,
): Promise<DeniedLayer> {
  const { indexDigest } = source
  await metadata.layers.denyIndex(indexDigest, reason)
  const containers = metadata.containers.usersOfLayer(diffId)
  const snapshots = metadata.lazy.snapshotsOf(diffId)
  const users = [...containers, ...snapshots.map((key) => `snapshot ${key}`)]
  // What is in the page cache is read on without this process.
  const advice =
    users.length === 0
      ? 'nothing shows it'
      : `stop what shows it, since what was read stays in memory: ${users.join(', ')}`
  report(`${failure.message}; ${advice}`)
  return { diffId, indexDigest, reason, containers, snapshots }
}
