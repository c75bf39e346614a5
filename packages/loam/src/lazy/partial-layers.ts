import type { DiffId, Digest } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import type { LazyStatus } from './protocol.ts'

/** A layer whose data is not all here. */
export interface PartialLayerInfo {
  /** The layer. */
  readonly diffId: DiffId
  /** Bytes of its tar that are here. */
  readonly presentBytes: number
  /** Size of its tar in bytes. */
  readonly totalBytes: number
  /** Reads that wait for its data now. */
  readonly waitingReads: number
  /** Why its data does not come; undefined: it comes, or nothing asks for it. With reads that wait the layer is starved. */
  readonly failure: string | undefined
  /** Digests of the images that have it. */
  readonly images: readonly Digest[]
  /** Ids of the containers that show it. */
  readonly containers: readonly string[]
}

/** Lists the partial layers of a store, with what the handler says of them; undefined: none runs. */
export function describePartialLayers(
  { metadata, layers }: { readonly metadata: MetadataStore; readonly layers: LayerStore },
  status: LazyStatus | undefined,
): PartialLayerInfo[] {
  const served = new Map(status?.layers.map((layer) => [layer.diffId, layer]))
  const partials = metadata.layers.partials()
  if (partials.length === 0) return []
  const images = metadata.images.list()
  return partials.map(({ diffId }) => {
    const known = served.get(diffId)
    const { tarBytes = 0 } = metadata.layers.find(diffId) ?? {}
    return {
      diffId,
      presentBytes: known?.presentBytes ?? Math.min(tarBytes, layers.partial.diskBytes(diffId)),
      totalBytes: tarBytes,
      waitingReads: known?.waiting ?? 0,
      failure: known?.failure ?? undefined,
      images: images
        .filter((image) => image.layers.some((layer) => layer.diffId === diffId))
        .map(({ digest }) => digest),
      containers: metadata.containers.usersOfLayer(diffId),
    }
  })
}
