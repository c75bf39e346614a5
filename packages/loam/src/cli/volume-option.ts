import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { HostMount } from '../containers/index.ts'
import { LoamError } from '../errors/index.ts'

/** Options that change nothing here: each mount has them anyway, or they are for other systems. */
const WITHOUT_EFFECT: readonly string[] = [
  ...['rw', 'nosuid', 'nodev', 'exec', 'rbind', 'private', 'rprivate', 'nocopy'],
  ...['cached', 'delegated', 'consistent'],
]
const SELINUX = '/sys/fs/selinux/enforce'
const HINT = 'Write --volume /host/path:/path[:ro], or --mount type=image,source=IMAGE,target=/path.'

/** Parses `HOST:TARGET[:OPTIONS]`, as `--volume` of docker and podman. Relative paths start from `cwd`. @throws USAGE */
export function parseVolume(text: string, cwd: string): HostMount {
  const fail = (why: string, hint = HINT) =>
    new LoamError('USAGE', `parse --volume ${JSON.stringify(text)}: ${why}`, { hint })
  const [host = '', target, options = '', ...rest] = text.split(':')
  if (target === undefined)
    throw fail(
      'it has no path of this machine',
      'Write HOST:TARGET; `--tmpfs PATH` makes an empty directory.',
    )
  if (rest.length > 0 || host === '') throw fail('expected HOST:TARGET[:OPTIONS]')
  if (!/^[./~]/.test(host))
    throw fail('Loam has no named volumes', `Give a path of this machine: ./${host}:${target}`)
  if (host.startsWith('~')) throw fail('"~" is not a path', 'Write $HOME in place of ~.')
  if (!target.startsWith('/')) throw fail('its target is not absolute')
  const words = options.split(',').filter((word) => word !== '')
  for (const word of words) {
    if (word === 'ro' || WITHOUT_EFFECT.includes(word)) continue
    if (!/^[zZ]$/.test(word)) throw fail(`the option ${JSON.stringify(word)} is not supported`)
    // Without SELinux there are no labels to change, as in docker and podman.
    if (existsSync(SELINUX)) throw fail('Loam does not change SELinux labels', 'Leave out z and Z.')
  }
  return { hostPath: resolve(cwd, host), target, isReadOnly: words.includes('ro') }
}

/** Returns a `--mount` whose relative path of this machine, `./x` or `../x`, starts from `cwd`. */
export function absoluteBind(text: string, cwd: string): string {
  if (!/(?:^|,)type=bind(?:,|$)/.test(text)) return text
  return text.replace(
    /(^|,)(source|src)=(\.{1,2}(?:\/[^,]*)?)(?=,|$)/,
    (_all, before: string, key: string, path: string) => `${before}${key}=${resolve(cwd, path)}`,
  )
}
