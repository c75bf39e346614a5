export type { LayerBlob } from './ingest.ts'
export type { PrunedLayer } from './prune.ts'
export {
  LayerStore,
  type LayerProgress,
  type LeaseLayerOptions,
} from './layer-store.ts'
export type { TreeSource } from './tree-source.ts'
export type { WantedLayer } from './layer-fetch.ts'
export type { PackedAs, PackReport } from './folder-reader.ts'
export type { FolderUsage, ArtifactKind } from './tasks.ts'
export { scanTarFile, SequentialWriter } from './tar-file.ts'
export { WorkerPool } from './worker-pool.ts'
export type { TreeSurvey } from './tree-survey.ts'
