import type { DiffId, Digest } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { TimeSlice } from '../linux/index.ts'
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

/** Lists the partial layers of a store, with what the handler says of them; undefined: none runs. Other work runs meanwhile. */
export async function describePartialLayers(
  { metadata, layers }: { readonly metadata: MetadataStore; readonly layers: LayerStore },
  status: LazyStatus | undefined,
): Promise<PartialLayerInfo[]> {
  const served = new Map(status?.layers.map((layer) => [layer.diffId, layer]))
  const described: PartialLayerInfo[] = []
  const slice = new TimeSlice()
  for (const { diffId } of metadata.layers.partials()) {
    await slice.rest()
    const layer = metadata.layers.find(diffId)
    // It may have been completed or removed meanwhile.
    if (layer?.data !== 'partial') continue
    const known = served.get(diffId)
    described.push({
      diffId,
      presentBytes: known?.presentBytes ?? Math.min(layer.tarBytes, layers.partial.diskBytes(diffId)),
      totalBytes: layer.tarBytes,
      waitingReads: known?.waiting ?? 0,
      failure: known?.failure ?? undefined,
      images: metadata.images.usersOfLayer(diffId),
      containers: metadata.containers.usersOfLayer(diffId),
    })
  }
  return described
}
