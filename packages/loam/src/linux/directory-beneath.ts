import { closeSync, constants } from 'node:fs'
import { posix } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { libc, O_PATH } from './libc.ts'
import { openBeneath, openWithoutLinks } from './open-beneath.ts'
import type { RootedPath } from './rooted-path.ts'

const AT_REMOVEDIR = 0x200
const OPEN_PARENT = O_PATH | constants.O_DIRECTORY

/**
 * Creates a directory with mode 0755 in a directory that exists, if it does not exist; neither the root nor the path leads through a symlink.
 * @throws ENOENT without its parent, ELOOP and EXDEV for a path that leads elsewhere, ENOTDIR for another kind of file
 */
export function createDirectoryBeneath(place: RootedPath): void {
  withParent(place, (parent, name) => {
    try {
      libc().mkdirat(parent, name, 0o755)
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
    }
    closeSync(openBeneath(parent, name, OPEN_PARENT))
  })
}

/** Returns whether there is anything at a path, in the same way; false for one that leads elsewhere. What is mounted there is not asked. */
export function existsBeneath(place: RootedPath): boolean {
  try {
    withParent(place, (parent, name) => {
      closeSync(openBeneath(parent, name, O_PATH))
    })
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV')) return false
    throw error
  }
}

/** Removes an empty directory in the same way; one that does not exist is not an error. @throws EBUSY for a mount point, ENOTEMPTY, and as above */
export function removeDirectoryBeneath(place: RootedPath): void {
  try {
    withParent(place, (parent, name) => libc().unlinkat(parent, name, AT_REMOVEDIR))
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

function withParent({ root, path }: RootedPath, act: (parent: number, name: string) => void): void {
  const rootFd = openWithoutLinks(root, OPEN_PARENT)
  try {
    const parent = openBeneath(rootFd, posix.dirname(path.slice(1)), OPEN_PARENT)
    try {
      act(parent, posix.basename(path))
    } finally {
      closeSync(parent)
    }
  } finally {
    closeSync(rootFd)
  }
}
