export type { SparseSegment, TarEntry, TarEntryType, TarXattr } from './entry.ts'
export { TarReader } from './reader.ts'
export { TarScan } from './scan.ts'
export { formatTarHeader, type TarEntryInput, tarEnd, tarPadding } from './writer.ts'
