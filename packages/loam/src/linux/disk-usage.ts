import { isErrno } from '../errors/index.ts'
import { openDirectory } from './directory.ts'
import { FileStat } from './file-stat.ts'
import { AT_FDCWD } from './libc.ts'
import { TreeWalk } from './tree-walk.ts'

/** The disk space and inodes of a file or folder. */
export interface DiskUsage {
  readonly bytes: number
  readonly inodes: number
}

/**
 * Measures how much of its file system a folder uses: blocks in bytes, and inodes. A hard-linked file counts once, in equal parts at each of its names;
 * mounts below it, and the content of directories that this user may not read, do not count. Handles a tree of any shape in constant memory; see `TreeWalk`.
 * With `maxInodes`, returns undefined for a folder with more. `check` is called for each entry, and ends the walk if it throws.
 */
export function diskUsage(path: string, options?: { readonly check?: () => void }): DiskUsage
export function diskUsage(path: string, options: { readonly maxInodes: number }): DiskUsage | undefined
export function diskUsage(
  path: string,
  { maxInodes = Infinity, check }: { readonly maxInodes?: number; readonly check?: () => void } = {},
): DiskUsage | undefined {
  const top = tryStat(AT_FDCWD, path)
  if (top === undefined) return { bytes: 0, inodes: 0 }
  if (!top.isDirectory) return { bytes: top.diskBytes, inodes: 1 }
  const fd = tryOpenFolder(path)
  if (fd === undefined) return { bytes: 0, inodes: 0 }
  using walk = new TreeWalk(fd, 'stored')
  let bytes = walk.top.diskBytes
  let inodes = 1
  for (;;) {
    const listed = walk.next()
    if (listed === undefined) {
      if (walk.depth === 0) return { bytes: Math.round(bytes), inodes: Math.round(inodes) }
      walk.leave()
      continue
    }
    check?.()
    const stat = tryStat(walk.fd, listed.name)
    if (stat === undefined || !stat.isInMountOf(walk.top)) continue
    const parts = stat.isDirectory ? 1 : Math.max(1, stat.links)
    bytes += stat.diskBytes / parts
    inodes += 1 / parts
    if (inodes > maxInodes) return undefined
    if (stat.isDirectory) enter(walk, listed.name)
  }
}

/** A file that is removed meanwhile does not count. */
function tryStat(dirFd: number, name: Buffer | string): FileStat | undefined {
  try {
    return FileStat.at(dirFd, name)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ESTALE')) return undefined
    throw error
  }
}

function tryOpenFolder(path: string): number | undefined {
  try {
    return openDirectory(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES')) return undefined
    throw error
  }
}

function enter(walk: TreeWalk, name: Buffer): void {
  try {
    walk.enter(name)
  } catch (error) {
    if (!isErrno(error, 'EACCES')) throw error
  }
}
