// Reads the configuration of containerd: config.toml and its imports. The rules of containerd 1 and 2 differ; each was tried with
// `containerd config dump`.
import { globSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parse as parseToml } from 'smol-toml'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { readRegular } from '../linux/index.ts'

/** Configuration file of containerd, by default. */
export const CONTAINERD_CONFIG = '/etc/containerd/config.toml'
const MAX_FILE_BYTES = 4 << 20
const MAX_FILES = 256

/** A table of TOML. */
export type Table = Readonly<Record<string, unknown>>

/** One file of containerd's configuration. */
export interface ContainerdFile {
  readonly path: string
  /** Version of its format. */
  readonly version: number
  readonly values: Table
}

/** Reads a configuration file and those that it imports, in the order in which later ones win; none if the first does not exist. @throws CONFIG_INVALID, and system errors */
export function readContainerdFiles(path: string, major: number): readonly ContainerdFile[] {
  const files: ContainerdFile[] = []
  const seen = new Set<string>()
  const pending = [path]
  for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
    if (seen.has(next)) continue
    seen.add(next)
    if (seen.size > MAX_FILES) {
      throw new LoamError('CONFIG_INVALID', `read ${path}: it imports more than ${MAX_FILES} files`)
    }
    const file = readFile(next)
    if (file === undefined && files.length === 0) return []
    if (file === undefined)
      throw new LoamError('CONFIG_INVALID', `read ${next}: it does not exist, and ${path} imports it`)
    files.push(file)
    pending.push(...importsOf(file, major))
  }
  return files
}

function readFile(path: string): ContainerdFile | undefined {
  let content: string
  try {
    content = readRegular(path, MAX_FILE_BYTES, 'CONFIG_INVALID').toString('utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw toLoamError(error, `read ${path}`)
  }
  try {
    const values = parseToml(content)
    const version = values['version']
    return { path, values, version: typeof version === 'number' && version > 0 ? version : 1 }
  } catch (error) {
    const [first] = String(error).split('\n')
    throw new LoamError('CONFIG_INVALID', `read ${path}: ${first}`, { cause: error })
  }
}

function importsOf({ path, values }: ContainerdFile, major: number): string[] {
  return textsIn(values['imports']).flatMap((pattern) => {
    // containerd 1 resolves a relative pattern from the directory that it was started in.
    if (!pattern.includes('*')) return [resolve(dirname(path), pattern)]
    return globSync(resolve(major < 2 ? '/' : dirname(path), pattern)).toSorted()
  })
}

/** Returns the texts of a list; nothing for any other value. */
export function textsIn(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : []
}

/** Returns a table; an empty one for any other value. */
export function tableIn(value: unknown): Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Table) : {}
}

/** Merges the sections of plugins. In containerd 1 an import replaces the whole section of a plugin, and in containerd 2 the keys that it has. */
export function mergePlugins(files: readonly ContainerdFile[], major: number): ReadonlyMap<string, Table> {
  const merged = new Map<string, Table>()
  for (const { values } of files) {
    for (const [name, section] of Object.entries(tableIn(values['plugins']))) {
      const below = merged.get(name)
      merged.set(name, major < 2 || below === undefined ? tableIn(section) : merge(below, tableIn(section)))
    }
  }
  return merged
}

/** Merges the proxy plugins, of which a later file always replaces the whole one. */
export function mergeProxies(files: readonly ContainerdFile[]): ReadonlyMap<string, Table> {
  return new Map(
    files.flatMap(({ values }) =>
      Object.entries(tableIn(values['proxy_plugins'])).map(
        ([name, proxy]) => [name, tableIn(proxy)] as const,
      ),
    ),
  )
}

function merge(below: Table, above: Table): Table {
  const merged = new Map(Object.entries(below))
  for (const [key, value] of Object.entries(above)) {
    const former = merged.get(key)
    merged.set(key, isTable(former) && isTable(value) ? merge(former, value) : value)
  }
  return Object.fromEntries(merged)
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
