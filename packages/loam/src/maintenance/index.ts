export { checkStore, type FsckParts } from './fsck.ts'
export type { FsckOptions, FsckProblem, FsckProgress, FsckReport } from './fsck-report.ts'
export {
  type ContainerUsage,
  type ImageUsage,
  type LayerUsage,
  measureStore,
  type StoreUsage,
  type UsageParts,
} from './usage.ts'
