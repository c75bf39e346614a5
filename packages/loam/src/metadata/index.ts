export type { AdditionalImage } from './additional-images.ts'
export {
  ancestorsOf,
  type ContainerId,
  isContainerId,
  isContainerPart,
  parseContainerId,
} from './container-id.ts'
export type { ContainerRecord, RootfsRecord, RootfsState } from './containers.ts'
export type { DecisionRecord } from './decisions.ts'
export {
  IMAGE_TYPES,
  type ImageLayerRecord,
  type ImageRecord,
  type ImageType,
} from './images.ts'
export {
  checkPin,
  isOwnWord,
  type LeftName,
  type NameGiver,
  type NameRecord,
  type NewName,
  rankOf,
} from './name-rules.ts'
export type { ArtifactRecord, CompleteLayer, LayerRecord, LazySource, PartialLayer } from './layers.ts'
export type { LayerProfile } from './lazy.ts'
export { MetadataStore } from './metadata-store.ts'
export {
  type NewSnapshot,
  type SnapshotKey,
  snapshotKey,
  type SnapshotKind,
  type SnapshotRecord,
} from './snapshots.ts'
export { openMetadata } from './open-metadata.ts'
