export type { ContainerRecord, RootfsRecord, RootfsState } from './containers.ts'
export type { DecisionRecord } from './decisions.ts'
export {
  IMAGE_TYPES,
  type ImageLayerRecord,
  type ImageRecord,
  type ImageType,
  type NameRecord,
} from './images.ts'
export type { FormRecord, LayerRecord } from './layers.ts'
export { MetadataStore } from './metadata-store.ts'
export type { NewSnapshot, SnapshotKind, SnapshotRecord } from './snapshots.ts'
