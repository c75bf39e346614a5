import { LoamError } from '../errors/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import { report } from './report.ts'
import type { ServedLayer } from './served-layer.ts'

/** Creates the error for a layer whose lazy index has turned out to be wrong. */
export function wrongIndex({ diffId, source }: ServedLayer, why: string): LoamError {
  return new LoamError(
    'LAYER_DAMAGED',
    `verify layer ${diffId}: its lazy index ${source.indexDigest} is wrong: ${why}`,
  )
}

/** Denies the index of a layer from now on, and reports the containers that show the layer. */
export async function denyIndex(
  { diffId, source }: ServedLayer,
  failure: LoamError,
  why: string,
  metadata: MetadataStore,
): Promise<void> {
  await metadata.layers.denyIndex(source.indexDigest, why)
  const users = metadata.containers.rootfses().filter(({ layers }) => layers.includes(diffId))
  const names = [...new Set(users.map(({ containerId }) => containerId))]
  report(`${failure.message}; containers that show it: ${names.length === 0 ? 'none' : names.join(', ')}`)
}
