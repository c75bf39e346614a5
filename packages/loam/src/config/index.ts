export { type Configuration, type ConfigurationInput, readConfiguration } from './configuration.ts'
export type { ImageGcConfig } from './image-gc-config.ts'
export { SETTINGS, SETTING_ALIASES, SETTING_NAMES, type SettingName, type Settings } from './settings.ts'
export { readSignaturePolicy } from './signature-policy.ts'
