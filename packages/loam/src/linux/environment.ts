/*
 * Environments of the programs that Loam runs. Ours holds whatever its user has put there, tokens and passwords among it, and a program's can
 * be read in /proc and ends up in its core dumps, its logs and its children. So each gets what it needs by name, and nothing else.
 */

export type Environment = Readonly<Record<string, string | undefined>>

const DEFAULT_PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

/** Who and where one is, and in which language. `LC_*` matches all that begin so. */
const PLAIN: readonly string[] = ['HOME', 'USER', 'LOGNAME', 'LANG', 'LANGUAGE', 'LC_*', 'TZ', 'TMPDIR']

/** Returns where programs are looked up. */
export function searchPath(env: Environment): string {
  return env['PATH'] ?? DEFAULT_PATH
}

/** Returns the environment of a tool whose words are read: it needs to find its own programs, and to speak English. */
export function toolEnvironment(path: string): Record<string, string> {
  return { PATH: path, LC_ALL: 'C' }
}

/** Returns the plain part of an environment, and the variables that are named besides; `NAME*` matches all that begin so. */
export function plainEnvironment(env: Environment, names: readonly string[] = []): Record<string, string> {
  const wanted = [...PLAIN, ...names]
  const isWanted = (name: string) =>
    wanted.some((each) => (each.endsWith('*') ? name.startsWith(each.slice(0, -1)) : name === each))
  const kept = Object.entries(env).flatMap(([name, value]) =>
    value !== undefined && isWanted(name) ? [[name, value] as const] : [],
  )
  return { PATH: searchPath(env), ...Object.fromEntries(kept) }
}
