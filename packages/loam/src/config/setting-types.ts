import { isAbsolute, resolve } from 'node:path'

/** Parser of a value from text or from the configuration file. */
export interface SettingType<T> {
  /** The valid form, for messages about invalid values. */
  readonly expected: string
  /** Returns undefined for an invalid value. Relative paths start from `cwd`, which is '' for this process's own directory. */
  readonly parse: (value: unknown, cwd: string) => T | undefined
  /** Takes a value that a program gives as it is in force, where it differs from its text. Returns undefined for any other. */
  readonly take?: (value: unknown) => T | undefined
}

export const folder: SettingType<string> = {
  expected: 'a path',
  parse: (value, cwd) => (typeof value === 'string' && value !== '' ? resolve(cwd, value) : undefined),
}

export const absolutePath: SettingType<string> = {
  expected: 'an absolute path',
  parse: (value) => (typeof value === 'string' && isAbsolute(value) ? resolve(value) : undefined),
}

export const text: SettingType<string> = {
  expected: 'text',
  parse: (value) => (typeof value === 'string' && value !== '' ? value : undefined),
}

/** As CSI demands of the name of a driver. */
export const domainName: SettingType<string> = {
  expected: 'a domain name of at most 63 characters',
  parse: (value) =>
    typeof value === 'string' && /^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/i.test(value) ? value : undefined,
}

export const program: SettingType<string> = {
  expected: 'the name or the path of a program',
  parse: (value) =>
    typeof value === 'string' && value !== '' && (isAbsolute(value) || !value.includes('/'))
      ? value
      : undefined,
}

export const list: SettingType<readonly string[]> = {
  expected: 'a comma-separated list',
  parse: (value) => {
    if (typeof value === 'string') return value.split(',').filter((part) => part !== '')
    return Array.isArray(value) && value.every((part) => typeof part === 'string') ? value : undefined
  },
}

/** A list of texts of one form. */
export function listOf(expected: string, isRight: (part: string) => boolean): SettingType<readonly string[]> {
  return {
    expected,
    parse: (value) => {
      const parts = list.parse(value, '')
      return parts !== undefined && parts.length > 0 && parts.every(isRight) ? parts : undefined
    },
  }
}

/** One of several words, in any case. */
export function oneOf<const Word extends string>(words: readonly Word[]): SettingType<Word> {
  return {
    expected: words.length === 1 ? `${words[0]}, the only allowed value` : `one of ${words.join(', ')}`,
    parse: (value) =>
      typeof value === 'string' ? words.find((word) => word === value.toLowerCase()) : undefined,
  }
}

/** Some of several words, in any case. */
export function someOf<const Word extends string>(words: readonly Word[]): SettingType<readonly Word[]> {
  return {
    expected: `a comma-separated list of: ${words.join(', ')}`,
    parse: (value) => {
      const found = list
        .parse(value, '')
        ?.map((part) => words.find((word) => word === part.trim().toLowerCase()))
      const known = found?.filter((word) => word !== undefined)
      return known !== undefined && known.length > 0 && known.length === found?.length ? known : undefined
    },
  }
}

export const count: SettingType<number> = {
  expected: 'a whole number above 0',
  parse: (value) => {
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
    return typeof number === 'number' && Number.isSafeInteger(number) && number > 0 ? number : undefined
  },
}

export const port: SettingType<number> = {
  expected: 'a port from 1 to 65535',
  parse: (value, context) => {
    const number = count.parse(value, context)
    return number !== undefined && number <= 0xffff ? number : undefined
  },
}

export const flag: SettingType<boolean> = {
  expected: 'true or false',
  parse: (value) => {
    if (typeof value === 'boolean') return value
    return value === 'true' || value === '1' ? true : value === 'false' || value === '0' ? false : undefined
  },
}

/** Mesos writes units in full. */
const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  ms: 1,
  s: 1000,
  secs: 1000,
  m: 60_000,
  mins: 60_000,
  h: 3_600_000,
  hrs: 3_600_000,
  days: 86_400_000,
  weeks: 604_800_000,
}

export const duration: SettingType<number> = {
  expected: 'a time, for example 30s, 1mins or 500ms',
  parse: (value) => {
    const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)([a-z]+)$/.exec(value) : null
    const unitMs = Object.hasOwn(UNITS_MS, match?.[2] ?? '') ? (UNITS_MS[match?.[2] ?? ''] ?? 0) : 0
    const timeMs = Math.round(Number(match?.[1] ?? 0) * unitMs)
    return timeMs > 0 ? timeMs : undefined
  },
  take: (value) =>
    typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : undefined,
}
