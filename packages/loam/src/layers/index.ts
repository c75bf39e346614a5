export type { LayerBlob } from './ingest.ts'
export type { PrunedLayer } from './prune.ts'
export {
  LayerStore,
  type LayerProgress,
  type LeaseLayerOptions,
  type TreeSource,
} from './layer-store.ts'
export type { WantedLayer } from './layer-fetch.ts'
export type { PackedAs, PackReport } from './pack-folder.ts'
export type { FolderUsage, LayerForm } from './tasks.ts'
export { scanTarFile, SequentialWriter } from './tar-file.ts'
export { WorkerPool } from './worker-pool.ts'
export type { TreeSurvey } from './tree-survey.ts'
