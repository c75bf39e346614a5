import type { Command } from 'commander'
import { describeSettings, readConfiguration } from '../../config/index.ts'
import { formatTable } from '../format.ts'
import { addGlobalOptions, configurationInput, type GlobalOptions, outputOf } from '../session.ts'
import type { Host } from '../host.ts'

export function addConfig(program: Command, host: Host): void {
  addGlobalOptions(program.command('config'))
    .description('show the settings in force and where each came from')
    .action((flags: GlobalOptions) => {
      const configuration = readConfiguration(configurationInput(host, flags))
      for (const warning of configuration.warnings) outputOf(host, flags).warn(warning)
      const rows = describeSettings(configuration)
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
