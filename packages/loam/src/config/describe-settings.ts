import type { Configuration } from './configuration.ts'
import { SETTING_NAMES, SETTINGS } from './settings.ts'

/** A setting in force. */
export interface DescribedSetting {
  readonly name: string
  readonly value?: unknown
  /** Source of the value. */
  readonly origin: string
  readonly help: string
}

/** Lists the settings in force, with the source of each. */
export function describeSettings({ values, origins }: Configuration): DescribedSetting[] {
  return SETTING_NAMES.map((name) => ({
    name,
    // The JSON of a configuration with credentials is not shown.
    value: name === 'docker_config' && values[name]?.startsWith('{') === true ? '(given)' : values[name],
    origin: origins[name],
    help: SETTINGS[name].help,
  }))
}
