import type { Command } from 'commander'
import { SETTING_ALIASES, SETTING_NAMES, type SettingName, SETTINGS } from '../config/index.ts'
import { LoamError } from '../errors/index.ts'

/** These are options of every command, and stand in its help. */
const OWN_OPTIONS: readonly string[] = ['root', 'state']

/** Settings that stand among a command's arguments, and the other arguments. */
export interface SplitArguments {
  readonly settings: Readonly<Record<string, string>>
  readonly rest: readonly string[]
}

/**
 * Takes the settings out of a command line: `--name value` or `--name=value`, with dashes or underscores, and `--name` or `--no-name` for
 * what is true or false. What belongs to a command in a container is left alone. @throws USAGE for a setting without a value
 */
export function splitSettings(program: Command, args: readonly string[]): SplitArguments {
  const settings: Record<string, string> = {}
  const rest: string[] = []
  let command: Command | undefined
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index] ?? ''
    const setting = readSetting(arg)
    if (arg === '--') {
      rest.push(...args.slice(index))
      break
    } else if (setting !== undefined) {
      if (setting.value === undefined) index += 1
      const value = setting.value ?? args[index]
      if (value === undefined) throw new LoamError('USAGE', `read ${arg}: it needs a value`)
      settings[setting.name] = value
    } else {
      rest.push(arg)
      if (arg.startsWith('-')) {
        if (takesNext(command ?? program, arg)) {
          index += 1
          rest.push(...args.slice(index, index + 1))
        }
        continue
      }
      if (command?.name() === 'run') {
        rest.push(...args.slice(index + 1))
        break
      }
      command ??= program.commands.find((candidate) => candidate.name() === arg)
    }
  }
  return { settings, rest }
}

function readSetting(arg: string): { name: SettingName; value: string | undefined } | undefined {
  const [, no, word = '', , value] = /^--(no[-_])?([a-z][a-z_-]*)(=(.*))?$/s.exec(arg) ?? []
  const known = nameOf(`${no ?? ''}${word}`)
  if (known !== undefined) {
    return { name: known, value: value ?? (isFlag(known) ? 'true' : undefined) }
  }
  const negated = no === undefined || value !== undefined ? undefined : nameOf(word)
  return negated !== undefined && isFlag(negated) ? { name: negated, value: 'false' } : undefined
}

function nameOf(word: string): SettingName | undefined {
  const name = word.replaceAll('-', '_')
  const own = SETTING_NAMES.find((candidate) => candidate === name) ?? SETTING_ALIASES[name]
  return own === undefined || OWN_OPTIONS.includes(own) ? undefined : own
}

function isFlag(name: SettingName): boolean {
  return typeof SETTINGS[name].defaultValue === 'boolean'
}

function takesNext(command: Command, arg: string): boolean {
  const option = command.options.find(({ long, short }) => long === arg || short === arg)
  return option?.required ?? false
}
