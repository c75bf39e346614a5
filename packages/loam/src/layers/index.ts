export type { MountBelow } from '../transform/index.ts'
export type { WantedArtifact } from './artifact-builder.ts'
export type { MergedImage } from './artifact-store.ts'
export type { PrunedLayer } from './prune.ts'
export type { LayerProgress, LeaseLayerOptions, LeaseLazilyOptions } from './layer-leases.ts'
export { LayerStore } from './layer-store.ts'
export { isFull, makeRoom } from './make-room.ts'
export type { LazyParts, TrustedIndex } from './partial-layers.ts'
export { readDeviceTags } from './device-table.ts'
export { newArtifactRecord } from './artifact-record.ts'
export type { LayerIndex } from './layer-indexes.ts'
export type { CompleteOptions, LayerFiller } from './layer-filler.ts'
export {
  openSpanMap,
  recordSpan,
  SPAN_CLAIMED,
  SPAN_HERE,
  type SpanState,
} from './span-map.ts'
export { DirectoryInThread } from './shared-indexes.ts'
export type { TreeSource } from './tree-source.ts'
export type { UnknownLayer } from './layer-fetch.ts'
export type { WantedLayer } from './wanted-layer.ts'
export { type PoolLoad, WorkerPool } from './worker-pool.ts'
