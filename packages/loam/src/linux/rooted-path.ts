import { closeSync, readlinkSync } from 'node:fs'
import { join, posix } from 'node:path'
import { isErrno, LoamError } from '../errors/index.ts'
import { AT_FDCWD, O_PATH } from './libc.ts'
import { openat2, RESOLVE_NO_MAGICLINKS } from './open-beneath.ts'

/** A directory of this machine: in a root filesystem, or (`root` is `/`) the machine's own. `path` begins with a slash. */
export interface RootedPath {
  readonly root: string
  readonly path: string
}

/** MAXSYMLINKS of the kernel. */
const MAX_LINKS = 40

/**
 * Resolves the symlinks of a path of this machine, and stops at the first directory for which `isRoot` returns true: the caller resolves the
 * rest inside that root. The path need not exist. @throws SYSTEM for too many symlinks, USAGE
 * for links of /proc to files of a process, whose text differs from their target
 */
export function followHostPath(path: string, isRoot: (path: string) => boolean): RootedPath {
  refuseMagicLinks(path)
  const pending = partsOf(path)
  let current = '/'
  let links = 0
  for (let part = pending.shift(); part !== undefined; part = pending.shift()) {
    current = join(current, part)
    if (isRoot(current)) return { root: current, path: posix.join('/', ...pending) }
    const link = readLink(current)
    if (link === undefined) continue
    links += 1
    if (links > MAX_LINKS)
      throw new LoamError('SYSTEM', `follow ${path}: it has too many symlinks`, {
        details: { errno: 'ELOOP', path },
      })
    current = link.startsWith('/') ? '/' : posix.dirname(current)
    pending.unshift(...partsOf(link))
  }
  return { root: '/', path: current }
}

function refuseMagicLinks(path: string): void {
  try {
    closeSync(openat2(AT_FDCWD, path, O_PATH, RESOLVE_NO_MAGICLINKS))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return
    if (!isErrno(error, 'ELOOP')) throw error
    throw new LoamError(
      'USAGE',
      `follow ${path}: it has too many symlinks, or a link of /proc to what a process sees`,
      { hint: 'Give the path of the directory itself.' },
    )
  }
}

function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '')
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
