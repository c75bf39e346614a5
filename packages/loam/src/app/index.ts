export { examine } from './doctor.ts'
export { Loam, type LoamOptions, openLoam } from './loam.ts'
export type { HostReport, PlaceReport } from './results.ts'
