export { appcNaming } from './appc/appc-naming.ts'
export { dockerNaming } from './docker/docker-naming.ts'
export type { ImageNaming } from './find-image.ts'
export { ImageStore, type ImageStoreOptions } from './image-store.ts'
export { findLazyIndexes, type LazyIndexRules, trustsStill } from './lazy-indexes.ts'
export type { FindIndexes, LazyPlan, TrustsStill } from './lazy-pull.ts'
export { toWanted } from './image-record.ts'
export { describeLeftOut } from './lease-layers.ts'
export { PolicyEnforcer } from './policy-enforcer.ts'
export {
  type GetOptions,
  type PruneOptions,
  type PruneResult,
  type PullEvent,
  type Store,
  StoredImage,
} from './store.ts'
export { addressLabel, imageLabel, observeFetch } from './observe-layers.ts'
