export { examine } from './doctor.ts'
export { Loam, type LoamOptions, openLoam } from './loam.ts'
export {
  type OpenSnapshotterOptions,
  type SnapshotAdoption,
  type SnapshotImportOptions,
  Snapshots,
} from './snapshots.ts'
export { StoreCare } from './store-care.ts'
export type { Examination, HostReport, StoreLocation } from './results.ts'
