export { examine } from './doctor.ts'
export { Loam, type LoamOptions, openLoam } from './loam.ts'
export {
  type MesosContainer,
  type MesosContainerInfo,
  type MesosVolume,
  parseMesosContainer,
} from './mesos-container.ts'
export type { MesosImportOptions, MesosImportReport } from './mesos-import.ts'
export type {
  CollectionReport,
  PruneReport,
  HostReport,
  Inspection,
  ListedImage,
  PlaceReport,
  ProvisionedContainer,
  ProvisionedImage,
  ProvisionedVolume,
  PulledImage,
} from './results.ts'
export type {
  FetchOptions,
  HostMount,
  ImageOptions,
  ImageVolume,
  ProvisionImageOptions,
  RecoverOptions,
  RunImageOptions,
  VolumeOptions,
} from './requests.ts'
export type { BlobRoute } from './push-blobs.ts'
export type { DigestChange, PushedImage, PushEvent, PushOptions } from './push-image.ts'
