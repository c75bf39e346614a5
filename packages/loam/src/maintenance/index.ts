export {
  checkStore,
  type FsckOptions,
  type FsckParts,
  type FsckProgress,
  type FsckProblem,
  type FsckReport,
} from './fsck.ts'
export {
  type ContainerUsage,
  type ImageUsage,
  type LayerUsage,
  measureStore,
  type StoreUsage,
  type UsageParts,
} from './usage.ts'
