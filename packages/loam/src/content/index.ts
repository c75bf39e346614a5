export { BlobStore } from './blob-store.ts'
export { IngestArea, type Sweep, sweepUnfinished } from './ingest-area.ts'
export { leaseOrMake, type LeaseOptions } from './lease.ts'
export { LazyIndexDirectory, type SharedIndex, type SharedIndexes } from './lazy-index-directory.ts'
export { blobPath, layerPath, lockPath, stackPath, type StorePaths } from './store-paths.ts'
export { PartialBlob, sweepPartials } from './partial-blob.ts'
export { type BlobRetention, type HeldBlob, RetainedBlobs, sweepRetained } from './retained-blobs.ts'
export { SingleFlight, untilAborted } from './single-flight.ts'
export { findUnsafeState } from './state-root.ts'
export { foreignNames, openStoreRoot } from './store-root.ts'
export { upgradeStoreFiles } from './store-upgrade.ts'
export { clearName, discard, moveOver, Removals } from './trash.ts'
export { StoreReserve } from './reserve.ts'
export { SequentialWriter } from './sequential-writer.ts'
export {
  ARTIFACT_KINDS,
  type ArtifactKind,
  type DerivedKind,
  LAZY_INDEX_NAME,
  META_NAME,
  SPAN_MAP_NAME,
  TAR_NAME,
  UNPACKED_NAME,
  artifactPath,
  STACK_KINDS,
  setAside,
  sweepAside,
} from './artifacts.ts'
