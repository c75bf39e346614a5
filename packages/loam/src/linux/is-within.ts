import { closeSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { openDirectoryAt } from './directory.ts'
import { FileStat } from './file-stat.ts'

/**
 * Returns whether an open directory is another one, or is in it at any depth, also across mounts. The way to the root of this machine is as long as the
 * parents may be searched.
 */
export function isWithin(fd: number, outer: FileStat): boolean {
  let current = openDirectoryAt(fd, '.')
  try {
    for (let stat = FileStat.of(current); ; ) {
      if (stat.identity === outer.identity) return true
      const above = openParent(current)
      if (above === undefined) return false
      closeSync(current)
      current = above
      const next = FileStat.of(above)
      // The root is its own parent.
      if (next.identity === stat.identity && next.isInMountOf(stat)) return false
      stat = next
    }
  } finally {
    closeSync(current)
  }
}

function openParent(fd: number): number | undefined {
  try {
    return openDirectoryAt(fd, '..')
  } catch (error) {
    if (isErrno(error, 'EACCES', 'ENOENT')) return undefined
    throw error
  }
}
