/*
 * Environments of the programs that Loam runs. Ours contains whatever its user has put there, including tokens and passwords. The environment of a program can
 * be read in /proc and ends up in its core dumps, its logs and its children. So each program gets only the variables that it needs, by name.
 */

export type Environment = Readonly<Record<string, string | undefined>>

const DEFAULT_PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

/** User, directories, time zone and language. `LC_*` matches all names with this prefix. */
const PLAIN: readonly string[] = ['HOME', 'USER', 'LOGNAME', 'LANG', 'LANGUAGE', 'LC_*', 'TZ', 'TMPDIR']

/** Returns the search path for programs. */
export function searchPath(env: Environment): string {
  return env['PATH'] ?? DEFAULT_PATH
}

/** Returns the environment of a tool whose output Loam parses: the tool must find its own programs, and print English. */
export function toolEnvironment(path: string): Record<string, string> {
  return { PATH: path, LC_ALL: 'C' }
}

/** Returns the plain part of an environment, and the additional named variables; `NAME*` matches all names with this prefix. */
export function plainEnvironment(env: Environment, names: readonly string[] = []): Record<string, string> {
  const wanted = [...PLAIN, ...names]
  const isWanted = (name: string) =>
    wanted.some((each) => (each.endsWith('*') ? name.startsWith(each.slice(0, -1)) : name === each))
  const kept = Object.entries(env).flatMap(([name, value]) =>
    value !== undefined && isWanted(name) ? [[name, value] as const] : [],
  )
  return { PATH: searchPath(env), ...Object.fromEntries(kept) }
}
