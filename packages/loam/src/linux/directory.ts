/*
 * Work beneath a directory descriptor. Nothing here follows a symlink in the last part of a name, and names are
 * single parts, so that no call leaves the directory that was opened.
 */
import { constants, openSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW, type Libc, libc, O_CLOEXEC } from './libc.ts'

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants
const OPEN_DIRECTORY = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC

/** Opens a directory beneath another one; the name ends in NUL. */
export function openDirectoryAt(dirFd: number, name: Buffer | string): number {
  return libc().openat(dirFd, name, OPEN_DIRECTORY, 0)
}

/** Opens a directory by its path. */
export function openDirectory(path: string): number {
  return openSync(path, OPEN_DIRECTORY)
}

/** Reads all xattrs of a path without following a symlink; names and values as bytes. */
export function readXattrs(path: Buffer): Xattr[] {
  return listXattrs(Buffer.concat([path, NUL]), libc().llistxattr, libc().lgetxattr)
}

/** Reads all xattrs of the file that a descriptor refers to; the descriptor may be only a path (`O_PATH`). */
export function readXattrsOf(fd: number): Xattr[] {
  // The kernel follows the link to just this file, and no further when that is a symlink itself.
  return listXattrs(Buffer.from(`/proc/self/fd/${fd}\0`), libc().listxattr, libc().getxattr)
}

interface Xattr {
  readonly name: Buffer
  readonly value: Buffer
}

/** Into a buffer for the largest possible value: other processes could change the size between two calls. */
function listXattrs(path: Buffer, list: Libc['llistxattr'], get: Libc['lgetxattr']): Xattr[] {
  const size = list(path, NUL, 0)
  if (size === 0) return []
  const room = Buffer.allocUnsafe(MAX_XATTR_BYTES)
  const names = Buffer.from(room.subarray(0, list(path, room, room.length)))
  return splitNul(names).flatMap((name) => {
    const length = tryGet(() => get(path, Buffer.concat([name, NUL]), room, room.length))
    return length === undefined ? [] : [{ name, value: Buffer.from(room.subarray(0, length)) }]
  })
}

function tryGet(get: () => number): number | undefined {
  try {
    return get()
  } catch (error) {
    // It was removed meanwhile.
    if (isErrno(error, 'ENODATA')) return undefined
    throw error
  }
}

function splitNul(list: Buffer): Buffer[] {
  const names: Buffer[] = []
  for (let start = 0; start < list.length; ) {
    const end = list.indexOf(0, start)
    names.push(list.subarray(start, end))
    start = end + 1
  }
  return names
}

const NUL = Buffer.alloc(1)
/** XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h. */
const MAX_XATTR_BYTES = 65536

/** Sets owner, mode, xattrs and time of a directory by its path. */
export function setDirectoryAttributes(
  path: string,
  attributes: {
    readonly mode: number
    readonly uid: number
    readonly gid: number
    readonly mtimeSeconds: number
    readonly mtimeNanoseconds: number
    readonly xattrs: readonly { name: Buffer; value: Buffer }[]
  },
): void {
  const calls = libc()
  calls.fchownat(AT_FDCWD, path, attributes.uid, attributes.gid, AT_SYMLINK_NOFOLLOW)
  calls.fchmodat(AT_FDCWD, path, attributes.mode & 0o7777, 0)
  for (const { name, value } of attributes.xattrs) {
    calls.lsetxattr(path, Buffer.concat([name, NUL]), value, value.length, 0)
  }
  const times = encodeTimes(attributes.mtimeSeconds, attributes.mtimeNanoseconds)
  calls.utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW)
}

/** Encodes the two struct timespec of utimensat: the same access and modification time. */
export function encodeTimes(seconds: number, nanoseconds: number, into = Buffer.alloc(32)): Buffer {
  const whole = BigInt(seconds)
  const fraction = BigInt(nanoseconds)
  into.writeBigInt64LE(whole, 0)
  into.writeBigInt64LE(fraction, 8)
  into.writeBigInt64LE(whole, 16)
  into.writeBigInt64LE(fraction, 24)
  return into
}
