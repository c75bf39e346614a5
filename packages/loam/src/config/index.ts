export { describeSettings } from './describe-settings.ts'
export {
  type Configuration,
  type ConfigurationInput,
  type ProgramSettings,
  readConfiguration,
  type SettingsInput,
} from './configuration.ts'
export { IMAGE_GC_EXAMPLE, type ImageGcConfig, type StoreWatermarks } from './image-gc-config.ts'
export { layerLimits } from './layer-limits.ts'
export { SETTINGS, SETTING_ALIASES, SETTING_NAMES, type SettingName, type Settings } from './settings.ts'
export { type ReadPolicy, readSignaturePolicy } from './signature-policy.ts'
