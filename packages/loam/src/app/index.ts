export {
  type Configuration,
  type ConfigurationInput,
  readConfiguration,
} from './configuration.ts'
export { Loam, type LoamOptions, openLoam } from './loam.ts'
export type { HostReport, Inspection, ListedImage, ProvisionedImage, PulledImage } from './results.ts'
export type { ImageOptions, ProvisionImageOptions, RunImageOptions } from './requests.ts'
export { SETTING_NAMES, type SettingName, type Settings, SETTINGS } from './settings.ts'
