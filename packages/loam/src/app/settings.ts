import { isAbsolute, resolve } from 'node:path'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'

/** One value that can be set, and how it is read from text or from the configuration file. */
interface Setting<T> {
  /** One line for `loam config --help` and docs/configuration.md. */
  readonly help: string
  readonly defaultValue: T
  /** Returns undefined for a value that is none; `expected` says what would be. */
  readonly parse: (value: unknown) => T | undefined
  readonly expected: string
}

function setting<T>(
  defaultValue: T,
  help: string,
  type: { readonly parse: (value: unknown) => T | undefined; readonly expected: string },
): Setting<T> {
  return { help, defaultValue, ...type }
}

const folder = {
  expected: 'a path',
  parse: (value: unknown) => (typeof value === 'string' && value !== '' ? resolve(value) : undefined),
}
const optionalText = {
  expected: 'a text',
  parse: (value: unknown): string | undefined =>
    typeof value === 'string' && value !== '' ? value : undefined,
}
const program = {
  expected: 'the name or the path of a program',
  parse: (value: unknown): string | undefined =>
    typeof value === 'string' && value !== '' && (isAbsolute(value) || !value.includes('/'))
      ? value
      : undefined,
}
const list = {
  expected: 'texts, separated by commas',
  parse: (value: unknown): readonly string[] | undefined => {
    if (typeof value === 'string') return value.split(',').filter((part) => part !== '')
    return Array.isArray(value) && value.every((part) => typeof part === 'string') ? value : undefined
  },
}
const count = {
  expected: 'a whole number above 0',
  parse: (value: unknown): number | undefined => {
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
    return typeof number === 'number' && Number.isSafeInteger(number) && number > 0 ? number : undefined
  },
}
const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  secs: 1000,
  m: 60_000,
  mins: 60_000,
  h: 3_600_000,
  hrs: 3_600_000,
}
const duration = {
  expected: 'a time, for example 30s, 1mins or 500ms',
  parse: (value: unknown): number | undefined => {
    const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)(ms|s|secs|m|mins|h|hrs)$/.exec(value) : null
    const timeMs = match === null ? 0 : Number(match[1]) * (UNITS_MS[match[2] ?? ''] ?? 0)
    return timeMs > 0 ? timeMs : undefined
  },
}

/** All settings by their names; a Mesos agent's flag keeps its name. */
export const SETTINGS = {
  root: setting('/var/lib/loam', 'Folder of the store.', folder),
  state: setting('/run/loam', 'Folder for bundles and sockets; gone after a reboot.', folder),
  image_provisioner_backend: setting<string | undefined>(
    undefined,
    'Backend for root filesystems: erofs, overlay, copy or bind. Unset: the best that works.',
    optionalText,
  ),
  docker_config: setting<string | undefined>(
    undefined,
    "Docker's config.json with credentials: a path, or the JSON itself.",
    optionalText,
  ),
  docker_stall_timeout: setting(60_000, 'Longest time in which a registry sends nothing.', duration),
  connect_timeout: setting(15_000, 'Longest time to make a connection.', duration),
  registry_tries: setting(5, 'Tries of a request that fails for the moment.', count),
  insecure_registries: setting<readonly string[]>(
    [],
    'Hosts that may be spoken to without TLS or a valid certificate.',
    list,
  ),
  certs_dirs: setting<readonly string[]>(
    ['/etc/loam/certs.d', '/etc/containerd/certs.d', '/etc/docker/certs.d'],
    'Folders with certificates and mirrors, one folder for each host.',
    list,
  ),
  runtime: setting('runc', 'OCI runtime that `loam run` starts.', program),
  max_layer_bytes: setting(DEFAULT_LAYER_LIMITS.tarBytes, 'Uncompressed bytes of one layer.', count),
  max_layer_entries: setting(DEFAULT_LAYER_LIMITS.entries, 'Files of one layer.', count),
  max_file_bytes: setting(DEFAULT_LAYER_LIMITS.fileBytes, 'Size of one file.', count),
  max_layer_xattr_bytes: setting(
    DEFAULT_LAYER_LIMITS.xattrBytes,
    'Extended attributes of one layer, in bytes.',
    count,
  ),
  max_layer_ratio: setting(
    DEFAULT_LAYER_LIMITS.ratio,
    'Uncompressed bytes of a layer for each compressed one.',
    count,
  ),
} as const

export type SettingName = keyof typeof SETTINGS

/** The values in force. Times are in ms, sizes in bytes. */
export type Settings = { readonly [Name in SettingName]: (typeof SETTINGS)[Name]['defaultValue'] }

/** The names in the order of the table. */
export const SETTING_NAMES = Object.keys(SETTINGS) as SettingName[]
