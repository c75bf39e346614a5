export { LazyIndexMaker } from './index-maker.ts'
export { readLazyIndex } from './read-index.ts'
export { readSkeleton, type SkeletonPiece } from './skeleton.ts'
export type { BlobAccess, IndexedBlob, LazyIndex, SpanTable } from './types.ts'
