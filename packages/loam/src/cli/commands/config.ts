import type { Command } from 'commander'
import { readConfiguration, SETTING_NAMES, SETTINGS } from '../../config/index.ts'
import { formatTable } from '../format.ts'
import { addGlobalOptions, configurationInput, type GlobalOptions, outputOf } from '../session.ts'
import type { Host } from '../host.ts'

export function addConfig(program: Command, host: Host): void {
  addGlobalOptions(program.command('config'))
    .description('show the settings in force and where each came from')
    .action((flags: GlobalOptions) => {
      const { values, origins, warnings } = readConfiguration(configurationInput(host, flags))
      for (const warning of warnings) outputOf(host, flags).warn(warning)
      const rows = SETTING_NAMES.map((name) => ({
        name,
        // The JSON of a configuration with credentials is nothing for a screen.
        value: name === 'docker_config' && values[name]?.startsWith('{') === true ? '(given)' : values[name],
        origin: origins[name],
        help: SETTINGS[name].help,
      }))
      outputOf(host, flags).result(rows, () =>
        formatTable(
          ['SETTING', 'VALUE', 'FROM', 'MEANING'],
          rows.map(({ name, value, origin, help }) => [name, showValue(value), origin, help]),
        ),
      )
    })
}

function showValue(value: unknown): string {
  if (value === undefined) return ''
  if (Array.isArray(value)) return value.join(', ')
  return typeof value === 'string' ? value : JSON.stringify(value)
}
