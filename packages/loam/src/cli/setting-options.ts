import { type Command, Option } from 'commander'
import { SETTING_ALIASES, SETTING_NAMES, type SettingName, SETTINGS } from '../config/index.ts'

/** Settings that every command lists in its help. */
const LISTED: readonly SettingName[] = ['root', 'state']

type GivenSettings = Readonly<Record<string, string>>

/**
 * Adds every setting to a command as a hidden option: `--name value` or `--name=value`, with dashes or underscores, and `--name` or
 * `--no-name` for boolean settings. The values are collected as the option value `settings`. Subcommands get the same
 * options when they are parsed, which keeps the start of the command fast.
 */
export function addSettingOptions(command: Command): void {
  const names = SETTING_NAMES.filter((name) => !LISTED.includes(name))
  addOptions(
    command,
    names.map((name) => new SettingOption(name)),
  )
}

function addOptions(command: Command, options: readonly SettingOption[]): void {
  for (const option of options) command.addOption(option)
  command.hook('preSubcommand', (_command, subcommand) => {
    addOptions(subcommand, options)
  })
}

/** Returns the settings given to a command and to its parents. A command's own settings take precedence. */
export function settingsOf(command: Command): GivenSettings {
  const own: GivenSettings | undefined = command.getOptionValue('settings')
  return { ...(command.parent === null ? {} : settingsOf(command.parent)), ...own }
}

/** One setting under all its spellings: with dashes or underscores, and under Mesos' older names. */
export class SettingOption extends Option {
  readonly #words: ReadonlySet<string>
  readonly #isFlag: boolean

  constructor(name: SettingName) {
    const isFlag = typeof SETTINGS[name].defaultValue === 'boolean'
    super(isFlag ? `--${name}` : `--${name} <value>`, SETTINGS[name].help)
    this.#isFlag = isFlag
    const aliases = Object.keys(SETTING_ALIASES).filter((alias) => SETTING_ALIASES[alias] === name)
    this.#words = new Set([name, ...aliases])
    this.hideHelp()
    this.argParser((value: string, previous: GivenSettings | undefined) => ({ ...previous, [name]: value }))
  }

  /** All settings are one value of the command. */
  override attributeName(): string {
    return 'settings'
  }

  /**
   * Returns whether a word is this option. Commander calls it with each word, right before it reads the option's value: a flag gets the
   * value as its preset. The method is commander's, though its types leave it out; the tests of this file fail without it.
   */
  is(arg: string): boolean {
    if (!arg.startsWith('--')) return false
    const equals = this.#isFlag ? arg.indexOf('=') : -1
    const word = arg.slice(2, equals < 0 ? undefined : equals).replaceAll('-', '_')
    if (this.#words.has(word)) {
      if (this.#isFlag) this.preset(equals < 0 ? 'true' : arg.slice(equals + 1))
      return true
    }
    if (!this.#isFlag || equals >= 0 || !word.startsWith('no_') || !this.#words.has(word.slice(3)))
      return false
    this.preset('false')
    return true
  }
}
