import { closeSync, constants, openSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { FileStat } from './file-stat.ts'
import { AT_FDCWD, libc, O_CLOEXEC, O_PATH } from './libc.ts'

// linux/fs.h; the number has the size of a long, and the flags are an int.
const FS_IOC_GETFLAGS = 0x80086601
const FS_IOC_SETFLAGS = 0x40086602
const FS_IMMUTABLE_FL = 0x10
const FS_APPEND_FL = 0x20

/**
 * Clears the flags (immutable, append-only) that keep even root from changing a file or directory; one without such flags stays unchanged.
 * A name as bytes ends in NUL.
 */
export function clearProtectionAt(dirFd: number, name: Buffer | string): void {
  let pathFd: number | undefined
  try {
    pathFd = libc().openat(dirFd, name, O_PATH | constants.O_NOFOLLOW | O_CLOEXEC, 0)
    const stat = FileStat.of(pathFd)
    // Other kinds of files have no flags, and opening a device may do anything.
    if (!stat.isFile && !stat.isDirectory) return
    const fd = openSync(`/proc/self/fd/${pathFd}`, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      clearProtection(fd)
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'EACCES', 'EPERM', 'EAGAIN')) throw error
  } finally {
    if (pathFd !== undefined) closeSync(pathFd)
  }
}

/** The same by a path; a symlink in its last part is not followed. */
export function unprotect(path: string): void {
  clearProtectionAt(AT_FDCWD, path)
}

/** The same for an open file or directory. */
export function clearProtection(fd: number): void {
  const flags = Buffer.alloc(8)
  try {
    libc().ioctl(fd, FS_IOC_GETFLAGS, flags)
    const value = flags.readUInt32LE(0)
    if ((value & (FS_IMMUTABLE_FL | FS_APPEND_FL)) === 0) return
    flags.writeUInt32LE((value & ~(FS_IMMUTABLE_FL | FS_APPEND_FL)) >>> 0, 0)
    libc().ioctl(fd, FS_IOC_SETFLAGS, flags)
  } catch (error) {
    // A file system without flags, or a process without CAP_LINUX_IMMUTABLE: if the flags matter, the caller's next call fails.
    if (!isErrno(error, 'ENOTTY', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'EPERM', 'EACCES')) throw error
  }
}
