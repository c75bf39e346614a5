export type {
  ComparedLayer,
  CompareRequest,
  Difference,
  TreeChange,
  TreeComparison,
} from './compare-trees.ts'
export type { HiddenFile, TreeContents } from './contents.ts'
export type { LargeFile, LayerReport, ReportRequest, TreeReport } from './layer-report.ts'
export type { LayerShare } from './contents-index.ts'
export type { ContentsEntry, ContentsLevel } from './contents-level.ts'
export type { FileType } from './entry-types.ts'
export type { MountBelow } from './copy-tree.ts'
export type { GatheredAs, PackedAs, PackReport } from './folder-reader.ts'
export type { LayerBlob } from './ingest.ts'
export type { LayerFiles, LayerTar } from './layer-files.ts'
export type {
  DescribedLayer,
  ExportedAs,
  FolderUsage,
  IngestResult,
  LayerTask,
  StackedFiles,
  TaskResult,
} from './layer-task.ts'
export type { TreeSurvey } from './tree-survey.ts'
export type { FromWorker, ToWorker } from './worker-messages.ts'
