import { closeSync, constants, fstatSync, mkdirSync, readlinkSync, readSync, type Stats } from 'node:fs'
import { isErrno, LoamError } from '../errors/index.ts'
import type { FileOwner } from './id-mapping.ts'
import { AT_EMPTY_PATH, libc, O_PATH } from './libc.ts'
import {
  openat2,
  openWithoutLinks,
  reopenRegular,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
} from './open-beneath.ts'
import type { RootedPath } from './rooted-path.ts'
import { effectiveUser } from './system.ts'

const X_OK = 1

/**
 * Opens a path as a process in that root would see it: absolute symlinks and `..` stay inside. The kernel resolves the path (openat2), so no
 * other process can change a checked path. The file itself is not opened: opening a pipe would wait, and opening a device may do anything.
 * Returns undefined if it does not exist.
 */
function openPathInRoot(root: string, path: string, flags = 0): number | undefined {
  const rootFd = openWithoutLinks(root, O_PATH | constants.O_DIRECTORY)
  try {
    return openat2(rootFd, path, O_PATH | flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG')) return undefined
    throw error
  } finally {
    closeSync(rootFd)
  }
}

/**
 * Opens a file of any kind in a root filesystem as a path only (`O_PATH`), which does not open its content; undefined if it does not exist. A symlink at
 * the end is opened itself unless `isFollowed`.
 */
export function openFileInRoot({ root, path }: RootedPath, isFollowed: boolean): number | undefined {
  return openPathInRoot(root, path, isFollowed ? 0 : constants.O_NOFOLLOW)
}

/** Opens a directory of a root filesystem with O_PATH. @throws PATH_NOT_FOUND if there is none at the path */
export function openDirectoryInRoot({ root, path }: RootedPath): number {
  const fd = openPathInRoot(root, path, constants.O_DIRECTORY)
  if (fd !== undefined) return fd
  throw new LoamError('PATH_NOT_FOUND', `open ${path} of the image: there is no such directory`)
}

/** Opens a regular file for reading; undefined if it does not exist or is not a regular file. */
function openRegularInRoot(
  root: string,
  path: string,
): { readonly fd: number; readonly stats: Stats } | undefined {
  const fd = openPathInRoot(root, path)
  if (fd === undefined) return undefined
  try {
    return reopenRegular(fd, path)
  } finally {
    closeSync(fd)
  }
}

/**
 * Reads a small regular file of a root filesystem, /etc/passwd for example. Returns undefined if it is missing
 * or is not a regular file. @throws LAYER_LIMIT if it is larger than `maxBytes`
 */
export function readFileInRoot(root: string, path: string, maxBytes = 1 << 20): Buffer | undefined {
  const file = openRegularInRoot(root, path)
  if (file === undefined) return undefined
  const { fd, stats } = file
  try {
    if (stats.size > maxBytes) {
      throw new LoamError(
        'LAYER_LIMIT',
        `read ${path} of the image: it has ${stats.size} bytes, the limit is ${maxBytes}`,
      )
    }
    const buffer = Buffer.alloc(stats.size)
    return buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, 0))
  } finally {
    closeSync(fd)
  }
}

/** Reads a part of a regular file of a root filesystem, less at its end. Returns undefined when it is missing or not a regular file. */
export function readPartInRoot(
  root: string,
  path: string,
  { offset, length }: { readonly offset: number; readonly length: number },
): Buffer | undefined {
  if (!Number.isSafeInteger(offset)) return undefined
  const file = openRegularInRoot(root, path)
  if (file === undefined) return undefined
  try {
    const buffer = Buffer.alloc(length)
    return buffer.subarray(0, readSync(file.fd, buffer, 0, length, offset))
  } finally {
    closeSync(file.fd)
  }
}

/** Returns the owner of the file at a path of a root filesystem, undefined if it does not exist. */
export function ownerInRoot(root: string, path: string): { uid: number; gid: number } | undefined {
  const fd = openPathInRoot(root, path)
  if (fd === undefined) return undefined
  try {
    const { uid, gid } = fstatSync(fd)
    return { uid, gid }
  } finally {
    closeSync(fd)
  }
}

/**
 * Creates a directory of a root filesystem and its missing parents, and returns its path on this machine, without
 * symlinks: those on the way are resolved inside the root. The path may refer to another directory a moment later. `owner`: of new directories; that of
 * this process by default.
 * @throws USAGE if another kind of file is in the way
 */
export function createDirectoryInRoot(root: string, path: string, owner?: FileOwner): string {
  let fd = openPathInRoot(root, '/', constants.O_DIRECTORY)
  let done = ''
  try {
    for (const part of path.split('/').filter((name) => name !== '' && name !== '.')) {
      done = `${done}/${part}`
      let next = openPathInRoot(root, done)
      if (next === undefined && fd !== undefined) {
        const isNew = createDirectoryAt(fd, part)
        next = openPathInRoot(root, done)
        if (isNew && next !== undefined && owner !== undefined) giveTo(next, owner)
      }
      if (next === undefined || !fstatSync(next).isDirectory()) {
        if (next !== undefined) closeSync(next)
        throw new LoamError('USAGE', `make ${path} in ${root}: ${done} is not a directory`)
      }
      if (fd !== undefined) closeSync(fd)
      fd = next
    }
    if (fd === undefined) throw new LoamError('USAGE', `make ${path} in ${root}: the root does not exist`)
    return readlinkSync(`/proc/self/fd/${fd}`)
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}

/** Returns whether it was created. A dangling symlink of that name counts as another kind of file. */
function createDirectoryAt(parent: number, name: string): boolean {
  try {
    mkdirSync(`/proc/self/fd/${parent}/${name}`, 0o755)
    return true
  } catch (error) {
    // ENOENT: its parent was removed meanwhile; the caller looks at the path again.
    if (!isErrno(error, 'EEXIST', 'ENOENT')) throw error
    return false
  }
}

/** Changes the owner of an open directory. The container may have put something else in its place: that is not root's on this machine, and stays as it is. */
function giveTo(fd: number, { uid, gid }: FileOwner): void {
  const stats = fstatSync(fd)
  if (stats.isDirectory() && stats.uid === effectiveUser()) libc().fchownat(fd, '', uid, gid, AT_EMPTY_PATH)
}

/** Whether the file at a path in a root filesystem can be run, and if not, why. */
export type Executable = 'executable' | 'not-executable' | 'directory' | 'missing'

/** Returns whether a path in a root filesystem can be run. */
export function findExecutableInRoot(root: string, path: string): Executable {
  const fd = openPathInRoot(root, path)
  if (fd === undefined) return 'missing'
  try {
    const stats = fstatSync(fd)
    if (stats.isDirectory()) return 'directory'
    if (!stats.isFile()) return 'not-executable'
    return (stats.mode & 0o111) === 0 ? 'not-executable' : 'executable'
  } finally {
    closeSync(fd)
  }
}

/** Returns whether this process may do something to a path by its own rights; `access(2)`. */
export function mayExecute(path: string): boolean {
  try {
    libc().access(path, X_OK)
    return true
  } catch {
    return false
  }
}
