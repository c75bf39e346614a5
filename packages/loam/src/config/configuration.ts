import { isAbsolute, join, resolve } from 'node:path'
import { parse as parseToml, TomlError } from 'smol-toml'
import { findNear, isErrno, isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import { ownUser, readRegular, readRootless, type Rootless } from '../linux/index.ts'
import type { SettingType } from './setting-types.ts'
import { SETTING_ALIASES, SETTING_NAMES, type SettingName, type Settings, SETTINGS } from './settings.ts'

/** Limit of a configuration file, which has some kilobytes. */
const MAX_FILE_BYTES = 4 << 20

/** Read if it exists and no other file is named. */
export const DEFAULT_CONFIG_FILE = '/etc/loam/config.toml'

/** An agent of Mesos without this flag has no images. Loam always does what these isolators do. */
const REQUIRED_ISOLATOR = 'filesystem/linux'

/** Variables that are not settings: of `cli/output.ts`, the tests of a checkout and `bin/loam.cjs`. */
const OTHER_VARIABLES: readonly string[] = [
  'LOAM_DEBUG',
  'LOAM_ANY_NODE',
  'LOAM_DAEMON',
  'LOAM_USER_NAMESPACE',
  'LOAM_ROOTLESS',
]

/** The settings of an open store, read once. */
export type Configuration = {
  /** The values in force. Times are in milliseconds, sizes in bytes. */
  readonly values: Settings
  /** Where each value came from: `default`, `settings`, `flag`, the name of a variable, or the path of a file. */
  readonly origins: Readonly<Record<SettingName, string>>
  /** Settings without effect, as sentences. */
  readonly warnings: readonly string[]
  /** The user whose defaults are in force. */
  readonly userId: number
  /** How a user who is not root works; undefined for root. */
  readonly rootless: Rootless | undefined
}

/** Settings by their names, as in the configuration file: text for times and paths, or the parsed values of the file. */
export type SettingsInput = {
  readonly [Name in SettingName]?: unknown
}

/**
 * Settings of a program: each as it is in force, or as text. Times are in milliseconds (or `30s`), sizes in bytes; relative paths start from `cwd`.
 * A name that is not a setting is an error, also at runtime.
 */
export type ProgramSettings = {
  readonly [Name in SettingName]?: Settings[Name] | string
}

/** Sources of settings: those of a program before flags before variables before the file. */
export interface ConfigurationInput {
  /** Settings of a program, with the highest precedence. */
  readonly settings?: ProgramSettings | undefined
  /** Values from a command line, as text. A name that is not a setting is an error. */
  readonly flags?: SettingsInput
  /** Variables LOAM_<NAME>. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** A file that must exist; undefined for the default one, null for none. */
  readonly file?: string | null | undefined
  /** Directory that relative paths start from; undefined or '' for that of this process. */
  readonly cwd?: string | undefined
  /** The user whose defaults are in force; undefined for that of this process. */
  readonly userId?: number | undefined
}

/** Reads the settings from flags, the environment and a file, in that order. @throws CONFIG_INVALID */
export function readConfiguration(input: ConfigurationInput = {}): Configuration {
  const path = input.file ?? DEFAULT_CONFIG_FILE
  const cwd = input.cwd ?? ''
  const file = input.file === null ? {} : readFile(path, cwd, input.file !== undefined)
  const flags = knownByName(input.flags ?? {}, 'flags')
  const settings = knownByName(input.settings ?? {}, 'settings')
  const values: Record<string, unknown> = {}
  const origins: Record<string, string> = {}
  for (const name of SETTING_NAMES) {
    const candidates: readonly (readonly [unknown, string])[] = [
      [settings[name], 'settings'],
      [flags[name], 'flag'],
      ...variablesOf(name).map((variable) => [input.env?.[variable], variable] as const),
      [file[name], path],
    ]
    const [raw, origin] = candidates.find(([value]) => value !== undefined && value !== '') ?? [
      undefined,
      'default',
    ]
    values[name] = raw === undefined ? SETTINGS[name].defaultValue : parse(name, raw, { origin, cwd })
    origins[name] = origin
  }
  return settle(input.env ?? {}, {
    values: values as unknown as Settings,
    origins: origins as Record<SettingName, string>,
    warnings: unknownVariables(input.env ?? {}),
    userId: input.userId ?? ownUser(input.env ?? {}),
    rootless: readRootless(input.env ?? {}),
  })
}

/** Returns the variables of a setting, by all its names. */
function variablesOf(name: SettingName): string[] {
  const aliases = Object.keys(SETTING_ALIASES).filter((alias) => SETTING_ALIASES[alias] === name)
  return [name, ...aliases].map((known) => `LOAM_${known.toUpperCase()}`)
}

/** Returns values under the current names of settings. */
function byName(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(values)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => {
        const own = name.replaceAll('-', '_')
        return [SETTING_ALIASES[own] ?? own, value]
      }),
  )
}

/** The same, but refuses a name that is not a setting. @throws CONFIG_INVALID */
function knownByName(values: Readonly<Record<string, unknown>>, origin: string): Record<string, unknown> {
  const names = byName(values)
  const unknown = Object.keys(names).find((name) => !Object.hasOwn(SETTINGS, name))
  if (unknown === undefined) return names
  const [near] = findNear(unknown, SETTING_NAMES)
  throw new LoamError('CONFIG_INVALID', `read ${origin}: unknown setting ${unknown}`, {
    hint: `${near === undefined ? '' : `Did you mean ${near}? `}\`loam config\` lists the settings.`,
    details: { setting: unknown },
  })
}

/** A misspelt variable has no effect; it may also be meant for another program. */
function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = new Set([...SETTING_NAMES.flatMap(variablesOf), ...OTHER_VARIABLES])
  return Object.keys(env)
    .filter((name) => name.startsWith('LOAM_') && !known.has(name))
    .map((name) => `the variable ${name} has no effect: unknown setting`)
}

/** Checks values that depend on each other. @throws CONFIG_INVALID when they contradict each other */
function settle(
  env: Readonly<Record<string, string | undefined>>,
  { values, origins, warnings, userId, rootless }: Configuration,
): Configuration {
  const { isolation, work_dir: workDir, runtime_dir: runtimeDir } = values
  if (!isolation.includes(REQUIRED_ISOLATOR)) {
    throw new LoamError(
      'CONFIG_INVALID',
      `read isolation (${origins.isolation}): images need ${REQUIRED_ISOLATOR}`,
      { hint: `Add ${REQUIRED_ISOLATOR} to isolation, or omit isolation.` },
    )
  }
  const isGiven = (name: SettingName) => origins[name] !== 'default'
  const derived: Partial<Record<SettingName, readonly [string, string]>> = {
    ...(userId === 0 ? {} : userPaths(env, values, isGiven)),
    ...(workDir !== undefined && !isGiven('root') ? { root: [join(workDir, 'loam'), origins.work_dir] } : {}),
    ...(runtimeDir !== undefined && !isGiven('state')
      ? { state: [join(runtimeDir, 'loam'), origins.runtime_dir] }
      : {}),
  }
  const entries = Object.entries(derived)
  return {
    values: { ...values, ...Object.fromEntries(entries.map(([name, [value]]) => [name, value])) },
    origins: { ...origins, ...Object.fromEntries(entries.map(([name, [, origin]]) => [name, origin])) },
    warnings,
    userId,
    rootless,
  }
}

/**
 * The store of a user who is not root is in the home directory (XDG Base Directory Specification).
 * @throws CONFIG_INVALID for a user without one, if the store is not named either
 */
function userPaths(
  env: Readonly<Record<string, string | undefined>>,
  values: Settings,
  isGiven: (name: SettingName) => boolean,
): Partial<Record<SettingName, readonly [string, string]>> {
  const isPath = (path: string | undefined): path is string => path !== undefined && isAbsolute(path)
  // What is empty or relative counts as not set.
  const home = [env['XDG_DATA_HOME'], join(env['HOME'] ?? '', '.local/share')].find(isPath)
  const own = home === undefined ? undefined : join(home, 'loam')
  const named = isGiven('root') ? values.root : values.work_dir && join(values.work_dir, 'loam')
  const root = own ?? named
  if (root === undefined)
    throw new LoamError('CONFIG_INVALID', 'read root (default): this user has no home directory', {
      hint: 'Name a directory for the store: --root (LOAM_ROOT), or set HOME or XDG_DATA_HOME.',
    })
  const runtime = env['XDG_RUNTIME_DIR']
  const state = isPath(runtime) ? join(runtime, 'loam') : join(root, 'state')
  const origin = own === undefined && !isPath(runtime) ? 'root' : 'home directory'
  return {
    ...(isGiven('root') ? {} : { root: [root, 'home directory'] }),
    ...(isGiven('state') ? {} : { state: [state, origin] }),
  }
}

function parse(
  name: SettingName,
  raw: unknown,
  { origin, cwd }: { readonly origin: string; readonly cwd: string },
): unknown {
  const { parse: parseValue, take, expected }: SettingType<unknown> = SETTINGS[name]
  let value: unknown
  try {
    value = (origin === 'settings' ? take?.(raw) : undefined) ?? parseValue(raw, cwd)
  } catch (error) {
    const { message, hint } = toLoamError(error, 'read')
    const what = message.replace(new RegExp(`^read ${name}: `), '')
    throw new LoamError('CONFIG_INVALID', `read ${name} (${origin}): ${what}`, {
      cause: error,
      hint,
      details: { origin },
    })
  }
  if (value !== undefined) return value
  throw new LoamError(
    'CONFIG_INVALID',
    `read ${name} (${origin}): ${JSON.stringify(raw)} is not ${expected}`,
    {
      details: { origin },
    },
  )
}

function readFile(path: string, cwd: string, isRequired: boolean): Record<string, unknown> {
  let text: string
  try {
    text = readRegular(resolve(cwd, path), MAX_FILE_BYTES, 'CONFIG_INVALID').toString('utf8')
  } catch (error) {
    if (!isRequired && isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return {}
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw missing(path, error)
    throw toLoamError(error, `read ${path}`)
  }
  let values: Record<string, unknown>
  try {
    values = parseToml(text)
  } catch (error) {
    throw new LoamError('CONFIG_INVALID', `read ${path}: ${describeToml(error, text)}`, {
      cause: error,
      hint: 'Settings are written in TOML: name = "text", name = 5, name = true or name = ["a", "b"].',
    })
  }
  try {
    return knownByName(values, path)
  } catch (error) {
    if (!isLoamError(error)) throw error
    const line = lineOf(String(error.details['setting']), text)
    const place = line === undefined ? path : `${path}, line ${line}`
    throw new LoamError(
      'CONFIG_INVALID',
      error.message.replace(path, () => place),
      { hint: error.hint },
    )
  }
}

function missing(path: string, cause: unknown): LoamError {
  return new LoamError('CONFIG_INVALID', `read ${path}: no such file`, {
    cause,
    hint: `Create it, or leave out --config: ${DEFAULT_CONFIG_FILE} is read if it exists.`,
  })
}

/** Returns one line about an error of TOML: where, what, and the line itself. */
function describeToml(error: unknown, text: string): string {
  if (!(error instanceof TomlError)) return toLoamError(error, 'parse').message
  const [first = ''] = error.message.split('\n')
  const why = first.replace(/^Invalid TOML document: /, '')
  const line = text.split('\n')[error.line - 1]?.trim() ?? ''
  return `line ${error.line}, column ${error.column}: ${why}: ${JSON.stringify(line.slice(0, MAX_SHOWN))}`
}

const MAX_SHOWN = 80

/** Returns the line of a setting at the top of a file. */
function lineOf(setting: string, text: string): number | undefined {
  const name = setting.replaceAll('_', '[-_]').replaceAll(/[^\w[\]-]/g, '.')
  const index = text.split('\n').findIndex((line) => new RegExp(`^\\s*["']?${name}["']?\\s*=`).test(line))
  return index < 0 ? undefined : index + 1
}
