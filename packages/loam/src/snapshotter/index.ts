export { type Labels, SNAPSHOT_REF } from './labels.ts'
export type { SnapshotInfo, SnapshotMount, SnapshotUsage } from './snapshot-info.ts'
export { type RemoteLayer, type RemoteLayers, Snapshotter, type SnapshotterOptions } from './snapshotter.ts'
export { importSnapshots, type SnapshotImportReport } from './snapshot-import.ts'
