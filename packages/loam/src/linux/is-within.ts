import { closeSync, constants } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { FileStat } from './file-stat.ts'
import { libc, O_CLOEXEC, O_PATH } from './libc.ts'

/** A parent need not be readable. */
const OPEN_PLACE = O_PATH | constants.O_DIRECTORY | O_CLOEXEC

/**
 * Returns whether an open directory is another one, or is in it at any depth, also across mounts. The way to the root of this machine is as long as the
 * parents may be searched.
 */
export function isWithin(fd: number, outer: FileStat): boolean {
  let current = libc().openat(fd, '.', OPEN_PLACE, 0)
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
    return libc().openat(fd, '..', OPEN_PLACE, 0)
  } catch (error) {
    if (isErrno(error, 'EACCES', 'ENOENT')) return undefined
    throw error
  }
}
