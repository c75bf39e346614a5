import { SETTING_ALIASES, SETTING_NAMES, SETTINGS } from '../../../packages/loam/src/config/index.ts'
import { code } from '../markdown.ts'
import type { Reference } from '../page.ts'
import { singlePage } from './single-page.ts'

type Default = string | number | boolean | readonly string[] | undefined

/** Returns the page of all settings, from the table that checks them. */
export function settingsPage(): Reference {
  return singlePage(
    'settings',
    'Settings',
    [
      'A setting NAME is a line `NAME = VALUE` of `/etc/loam/config.toml`, a variable `LOAM_NAME` in capitals, or a flag',
      '`--NAME VALUE` of each command. Flags precede variables, and these precede the file. `loam config` shows the values',
      'in force and their origins. [Configuration](../configuration.md) says more.',
    ].join('\n'),
    ...SETTING_NAMES.map(settingText),
  )
}

function settingText(name: (typeof SETTING_NAMES)[number]): string {
  const { help, defaultValue, expected } = SETTINGS[name] as {
    readonly help: string
    readonly defaultValue: Default
    readonly expected: string
  }
  const others = Object.entries(SETTING_ALIASES).flatMap(([alias, meant]) => (meant === name ? [alias] : []))
  return [
    `## ${name}`,
    help,
    expected.startsWith('supported')
      ? `Not ${expected}.`
      : `Value: ${expected}. Default: ${defaultText(defaultValue)}.`,
    ...(others.length === 0 ? [] : [`Also: ${others.map(code).join(', ')}.`]),
  ].join('\n\n')
}

function defaultText(value: Default): string {
  const words = typeof value === 'object' ? value.join(', ') : String(value ?? '')
  return words === '' ? 'unset' : code(words)
}
