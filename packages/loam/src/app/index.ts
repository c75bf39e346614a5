export {
  type Configuration,
  type ConfigurationInput,
  readConfiguration,
} from './configuration.ts'
export { examine } from './doctor.ts'
export type { ImageGcConfig } from './image-gc-config.ts'
export { type ImageRequest, NAMED_TYPES, type NamedType } from './image-request.ts'
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
export { SETTING_ALIASES, SETTING_NAMES, type SettingName, type Settings, SETTINGS } from './settings.ts'
export type { BlobRoute } from './push-blobs.ts'
export type { DigestChange, PushedImage, PushEvent, PushOptions } from './push-image.ts'
