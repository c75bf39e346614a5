export { AdditionalStores, type UnexportedImages } from './additional-stores.ts'
export {
  EXPORT_FORMATS,
  type ExportFormat,
  type ExportOptions,
  type ExportSource,
  exportTo,
  type WrittenFormat,
} from './exporter.ts'
export { counting, verified } from './blob-streams.ts'
export { type Disk, type DiskPart, formatDeviceMapperTable, formatVmdk } from './disk-description.ts'
export { type ArchiveFormat, writeImageArchive } from './image-archive.ts'
export type { FoundBlob, ImageSink, SinkManifest } from './image-sink.ts'
export { openLayoutSink } from './layout-sink.ts'
export type { OriginalImage } from './oci-layout.ts'
export { writeOutput } from './output.ts'
