export {
  EXPORT_FORMATS,
  type ExportFormat,
  type ExportOptions,
  type ExportSource,
  exportTo,
} from './exporter.ts'
export { writeOutput } from './output.ts'
