import { isErrno } from '../errors/index.ts'
import { openDirectory } from './directory.ts'
import { FileStat } from './file-stat.ts'
import { AT_FDCWD } from './libc.ts'
import { TreeWalk } from './tree-walk.ts'

/** What a file or folder takes of the disk. */
export interface DiskUsage {
  readonly bytes: number
  readonly inodes: number
}

/**
 * What a folder takes of its file system: blocks in bytes, and inodes. A hard-linked file counts once, in equal parts at each of its names;
 * what is mounted below does not, nor what is in directories that this user may not read. Takes a tree of any form, and no more memory for it; see `TreeWalk`.
 * With `maxInodes`, undefined for a folder of more.
 */
export function diskUsage(path: string): DiskUsage
export function diskUsage(path: string, maxInodes: number): DiskUsage | undefined
export function diskUsage(path: string, maxInodes = Infinity): DiskUsage | undefined {
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
    const stat = tryStat(walk.fd, listed.name)
    if (stat === undefined || !stat.isInMountOf(walk.top)) continue
    const parts = stat.isDirectory ? 1 : Math.max(1, stat.links)
    bytes += stat.diskBytes / parts
    inodes += 1 / parts
    if (inodes > maxInodes) return undefined
    if (stat.isDirectory) enter(walk, listed.name)
  }
}

/** What is removed meanwhile counts no more. */
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
