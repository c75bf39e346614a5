import { closeSync, constants, fstatSync, mkdirSync, readlinkSync, readSync } from 'node:fs'
import { isErrno, LoamError } from '../errors/index.ts'
import { openDirectory } from './directory.ts'
import { libc, O_CLOEXEC, O_PATH } from './libc.ts'

// linux/openat2.h
const RESOLVE_NO_MAGICLINKS = 2
const RESOLVE_IN_ROOT = 16
const X_OK = 1

/**
 * Opens a path as a process in that root would see it: absolute symlinks and `..` stay inside. The kernel does the
 * walk (openat2), so no other process can change what was checked. Returns undefined when it is not there.
 */
function openInRoot(root: string, path: string, flags: number): number | undefined {
  const rootFd = openDirectory(root)
  try {
    // struct open_how: flags, mode, resolve, 8 bytes each
    const how = Buffer.alloc(24)
    how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0)
    how.writeBigUInt64LE(BigInt(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), 16)
    return libc().openat2(rootFd, path, how, how.length)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined
    throw error
  } finally {
    closeSync(rootFd)
  }
}

/**
 * Reads a small regular file of a root filesystem, /etc/passwd for example. Returns undefined when it is missing
 * or is no regular file. @throws LAYER_LIMIT when it is larger than `maxBytes`
 */
export function readFileInRoot(root: string, path: string, maxBytes = 1 << 20): Buffer | undefined {
  const fd = openInRoot(root, path, constants.O_RDONLY | constants.O_NONBLOCK)
  if (fd === undefined) return undefined
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) return undefined
    if (stats.size > maxBytes) {
      throw new LoamError(
        'LAYER_LIMIT',
        `read ${path} of the image: it has ${stats.size} bytes, and ${maxBytes} are allowed`,
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
  const fd = openInRoot(root, path, constants.O_RDONLY | constants.O_NONBLOCK)
  if (fd === undefined) return undefined
  try {
    if (!fstatSync(fd).isFile() || !Number.isSafeInteger(offset)) return undefined
    const buffer = Buffer.alloc(length)
    return buffer.subarray(0, readSync(fd, buffer, 0, length, offset))
  } finally {
    closeSync(fd)
  }
}

/** Returns who owns what stands at a path of a root filesystem, undefined when there is nothing. */
export function ownerInRoot(root: string, path: string): { uid: number; gid: number } | undefined {
  const fd = openInRoot(root, path, O_PATH)
  if (fd === undefined) return undefined
  try {
    const { uid, gid } = fstatSync(fd)
    return { uid, gid }
  } finally {
    closeSync(fd)
  }
}

/**
 * Makes a folder of a root filesystem, and those that it is in, where they are missing, and returns its path on this machine: symlinks
 * on the way lead nowhere but into the root. @throws USAGE when something else than a folder is there
 */
export function makeDirectoryInRoot(root: string, path: string): string {
  let fd = openInRoot(root, '/', O_PATH | constants.O_DIRECTORY)
  let done = ''
  try {
    for (const part of path.split('/').filter((name) => name !== '' && name !== '.')) {
      done = `${done}/${part}`
      let next = openInRoot(root, done, O_PATH)
      if (next === undefined && fd !== undefined) {
        makeDirectoryAt(fd, part)
        next = openInRoot(root, done, O_PATH)
      }
      if (next === undefined || !fstatSync(next).isDirectory()) {
        if (next !== undefined) closeSync(next)
        throw new LoamError('USAGE', `make ${path} in ${root}: ${done} is no folder`)
      }
      if (fd !== undefined) closeSync(fd)
      fd = next
    }
    if (fd === undefined) throw new LoamError('USAGE', `make ${path} in ${root}: there is no such root`)
    return readlinkSync(`/proc/self/fd/${fd}`)
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}

/** A dangling symlink of that name is as good as something else. */
function makeDirectoryAt(parent: number, name: string): void {
  try {
    mkdirSync(`/proc/self/fd/${parent}/${name}`, 0o755)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
}

/** What stands at a path in a root filesystem, for somebody who wants to run it. */
export type Executable = 'executable' | 'not-executable' | 'directory' | 'missing'

/** Tells whether a path in a root filesystem can be run. */
export function findExecutableInRoot(root: string, path: string): Executable {
  const fd = openInRoot(root, path, O_PATH)
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

/** Tells whether this process may do something to a path by its own rights; `access(2)`. */
export function mayExecute(path: string): boolean {
  try {
    libc().access(path, X_OK)
    return true
  } catch {
    return false
  }
}
