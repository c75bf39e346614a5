export {
  type Configuration,
  type ConfigurationInput,
  readConfiguration,
} from './configuration.ts'
export {
  type HostReport,
  type Inspection,
  type ListedImage,
  Loam,
  type LoamOptions,
  openLoam,
  type ProvisionedImage,
  type PulledImage,
} from './loam.ts'
export type { ImageOptions, ProvisionImageOptions, RunImageOptions } from './requests.ts'
export { SETTING_NAMES, type SettingName, type Settings, SETTINGS } from './settings.ts'
