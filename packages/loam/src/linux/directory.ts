/*
 * Work beneath a directory descriptor. Nothing here follows a symlink in the last part of a name, and names are
 * single parts, so that what happens stays in the directory that was opened.
 */
import { closeSync, constants, lstatSync, openSync, readdirSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, libc, O_CLOEXEC } from './libc.ts'
import { unmountAll } from './unmount.ts'

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

/**
 * What a folder takes of its file system: blocks in bytes, and inodes. A hard-linked file counts once; other file systems in it do not.
 * With `maxInodes`, undefined for a folder of more.
 */
export function diskUsage(path: string): { bytes: number; inodes: number }
export function diskUsage(path: string, maxInodes: number): { bytes: number; inodes: number } | undefined
export function diskUsage(path: string, maxInodes = Infinity): { bytes: number; inodes: number } | undefined {
  const root = lstatSync(path, { throwIfNoEntry: false })
  const usage = { bytes: 0, inodes: 0 }
  if (root === undefined) return usage
  const linked = new Set<number>()
  const pending: Buffer[] = [Buffer.from(path)]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    // What is removed meanwhile counts no more.
    const stats = lstatSync(next, { throwIfNoEntry: false })
    if (stats === undefined || stats.dev !== root.dev) continue
    if (stats.nlink > 1 && !stats.isDirectory()) {
      if (linked.has(stats.ino)) continue
      linked.add(stats.ino)
    }
    usage.bytes += stats.blocks * 512
    usage.inodes += 1
    if (!stats.isDirectory()) continue
    const names = readdirSync(next, { encoding: 'buffer' })
    if (usage.inodes + names.length > maxInodes) return undefined
    for (const name of names) {
      pending.push(Buffer.concat([next, Buffer.from('/'), name]))
    }
  }
  return usage
}

/**
 * Removes a file or a directory with all in it. Mounts at or below the path are unmounted first, a file system
 * that could not be unmounted is not entered, and symlinks are not followed. A path that is not there is fine, and
 * so is one that others remove at the same time.
 */
export function removeTree(path: string): void {
  unmountAll(path)
  let parentFd: number
  try {
    parentFd = openSync(dirname(path), O_RDONLY | O_DIRECTORY)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  try {
    removeAt(parentFd, Buffer.from(`${basename(path)}\0`), deviceOf(parentFd))
  } finally {
    closeSync(parentFd)
  }
}

function removeAt(dirFd: number, name: Buffer, device: string): void {
  try {
    libc().unlinkat(dirFd, name, 0)
    return
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    if (!isErrno(error, 'EISDIR', 'EPERM')) throw error
  }
  try {
    removeDirectoryAt(dirFd, name, device)
  } catch (error) {
    // Somebody else removes it, too.
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

function removeDirectoryAt(dirFd: number, name: Buffer, device: string): void {
  const fd = openToRemove(dirFd, name)
  try {
    // An rm -r that walks into a mount empties somebody else's file system.
    if (deviceOf(fd) === device) {
      for (const child of readdirSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' })) {
        removeAt(fd, Buffer.concat([child, NUL]), device)
      }
    }
  } finally {
    closeSync(fd)
  }
  libc().unlinkat(dirFd, name, AT_REMOVEDIR)
}

/** Without root a directory's own mode counts, also for its owner, who may change it. */
function openToRemove(dirFd: number, name: Buffer): number {
  if (process.geteuid?.() === 0) return openDirectoryAt(dirFd, name)
  try {
    libc().fchmodat(dirFd, name, OWNER_ALL, AT_SYMLINK_NOFOLLOW)
  } catch (error) {
    // Of another owner, or of a kernel without fchmodat2: what cannot be opened is told below.
    if (!isErrno(error, 'EPERM', 'ENOTSUP', 'ENOSYS')) throw error
  }
  return openDirectoryAt(dirFd, name)
}

const OWNER_ALL = 0o700
const NUL = Buffer.alloc(1)
const STATX_BASIC = 0x7ff

function deviceOf(fd: number): string {
  const out = Buffer.alloc(256)
  libc().statx(fd, '', AT_EMPTY_PATH, STATX_BASIC, out)
  // struct statx: stx_dev_major at 136, stx_dev_minor at 140
  return `${out.readUInt32LE(136)}:${out.readUInt32LE(140)}`
}

/** Reads all xattrs of a path without following a symlink; names and values as bytes. For tests and comparisons. */
export function readXattrs(path: Buffer): { name: Buffer; value: Buffer }[] {
  const terminated = Buffer.concat([path, NUL])
  const size = libc().llistxattr(terminated, Buffer.alloc(1), 0)
  if (size === 0) return []
  const list = Buffer.alloc(size)
  const length = libc().llistxattr(terminated, list, size)
  return splitNul(list.subarray(0, length)).map((name) => {
    const key = Buffer.concat([name, NUL])
    const value = Buffer.alloc(libc().lgetxattr(terminated, key, Buffer.alloc(1), 0))
    libc().lgetxattr(terminated, key, value, value.length)
    return { name, value }
  })
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

/** Makes the two struct timespec of utimensat: access and change time alike. */
export function encodeTimes(seconds: number, nanoseconds: number, into = Buffer.alloc(32)): Buffer {
  const whole = BigInt(seconds)
  const fraction = BigInt(nanoseconds)
  into.writeBigInt64LE(whole, 0)
  into.writeBigInt64LE(fraction, 8)
  into.writeBigInt64LE(whole, 16)
  into.writeBigInt64LE(fraction, 24)
  return into
}
