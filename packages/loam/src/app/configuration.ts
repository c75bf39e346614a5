import { readFileSync } from 'node:fs'
import { parse as parseToml } from 'smol-toml'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { SETTING_NAMES, type SettingName, type Settings, SETTINGS } from './settings.ts'

/** Read when it is there and no other file is named. */
export const DEFAULT_CONFIG_FILE = '/etc/loam/config.toml'

/** Where a value in force came from: `default`, `flag`, the name of a variable, or the path of a file. */
export type Configuration = {
  readonly values: Settings
  readonly origins: Readonly<Record<SettingName, string>>
}

export interface ConfigurationInput {
  /** Values from the command line or a program, the strongest. */
  readonly flags?: Readonly<Record<string, unknown>>
  /** Variables LOAM_<NAME>. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** A file that must be there; undefined for the default one, null for none. */
  readonly file?: string | null | undefined
}

/** Gathers the settings from flags, the environment and a file, in that order. @throws CONFIG_INVALID */
export function readConfiguration(input: ConfigurationInput = {}): Configuration {
  const path = input.file ?? DEFAULT_CONFIG_FILE
  const file = input.file === null ? {} : readFile(path, input.file !== undefined)
  const env = input.env ?? {}
  const values: Record<string, unknown> = {}
  const origins: Record<string, string> = {}
  for (const name of SETTING_NAMES) {
    const variable = `LOAM_${name.toUpperCase()}`
    const candidates: readonly (readonly [unknown, string])[] = [
      [input.flags?.[name], 'flag'],
      [env[variable], variable],
      [file[name], path],
    ]
    const [raw, origin] = candidates.find(([value]) => value !== undefined && value !== '') ?? [
      undefined,
      'default',
    ]
    values[name] = raw === undefined ? SETTINGS[name].defaultValue : parse(name, raw, origin)
    origins[name] = origin
  }
  return { values: values as unknown as Settings, origins: origins as Record<SettingName, string> }
}

function parse(name: SettingName, raw: unknown, origin: string): unknown {
  const { parse: parseValue, expected } = SETTINGS[name]
  const value = parseValue(raw)
  if (value !== undefined) return value
  throw new LoamError('CONFIG_INVALID', `read ${name} (${origin}): ${JSON.stringify(raw)} is not ${expected}`)
}

function readFile(path: string, isRequired: boolean): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (!isRequired && isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return {}
    throw toLoamError(error, `read ${path}`)
  }
  let values: Record<string, unknown>
  try {
    values = parseToml(text)
  } catch (error) {
    throw new LoamError('CONFIG_INVALID', `read ${path}: ${String(error)}`, { cause: error })
  }
  const names = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name.replaceAll('-', '_'), value]),
  )
  const unknown = Object.keys(names).find((name) => !Object.hasOwn(SETTINGS, name))
  if (unknown !== undefined) {
    throw new LoamError('CONFIG_INVALID', `read ${path}: there is no setting ${unknown}`, {
      hint: '`loam config` lists the settings.',
    })
  }
  return names
}
