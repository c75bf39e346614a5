/*
 * Project quotas of xfs and ext4 (linux/fs.h, linux/quota.h, linux/dqblk_xfs.h): the files below a directory count for the number of its project, and
 * the file system limits the bytes of each project.
 */
import { randomInt } from 'node:crypto'
import { isErrno } from '../errors/index.ts'
import { libc } from './libc.ts'
import { withDirectory } from './with-directory.ts'

const FS_IOC_FSGETXATTR = 0x801c581f
const FS_IOC_FSSETXATTR = 0x401c5820
const FSXATTR_BYTES = 28
const PROJECT_OFFSET = 12
/** New files have the project of their directory. */
const PROJECT_INHERIT = 0x200
const PROJECTS = 2
const Q_GETQUOTA = 0x800007
const Q_SETQUOTA = 0x800008
const Q_XGETQSTAT = 0x5805
const STATE_BYTES = 128
/** FS_QUOTA_PDQ_ENFD */
const LIMITS_ENFORCED = 0x20
const QUOTA_BYTES = 72
const VALID_OFFSET = 64
/** QIF_BLIMITS */
const BLOCK_LIMITS = 1
const BLOCK_BYTES = 1024
/** Numbers that other programs, which count from 1 or from 2^20, do not reach. */
const [FIRST_PROJECT, LAST_PROJECT] = [0x40000000, 0x7fffffff]
const MAX_TRIES = 50

/** Returns whether the file system of a directory enforces limits of projects. */
export function enforcesProjectQuota(directory: string): boolean {
  return withDirectory(directory, (fd) => {
    const state = Buffer.alloc(STATE_BYTES)
    try {
      libc().quotactlFd(fd, command(Q_XGETQSTAT), 0, state)
    } catch {
      // A kernel before 5.14, a file system without quotas, or a process without the right to ask: there is no limit.
      return false
    }
    return (state.readUInt16LE(2) & LIMITS_ENFORCED) !== 0
  })
}

/** Makes an empty directory a project of its own, with a limit of its bytes. @throws system errors; other calls for the same file system must not run */
export function limitProject(directory: string, bytes: number): void {
  withDirectory(directory, (fd) => {
    const project = findFreeProject(fd)
    setLimit(fd, project, Math.ceil(bytes / BLOCK_BYTES))
    const attributes = readAttributes(fd)
    attributes.writeUInt32LE(attributes.readUInt32LE(0) | PROJECT_INHERIT, 0)
    attributes.writeUInt32LE(project, PROJECT_OFFSET)
    libc().ioctl(fd, FS_IOC_FSSETXATTR, attributes)
  })
}

/** Removes the limit of a directory's project, which is to be removed; for any other directory nothing happens. */
export function forgetProject(directory: string): void {
  withDirectory(directory, (fd) => {
    try {
      const project = readAttributes(fd).readUInt32LE(PROJECT_OFFSET)
      if (project >= FIRST_PROJECT && project <= LAST_PROJECT) setLimit(fd, project, 0)
    } catch (error) {
      // A file system without projects, or without quotas by now.
      if (!isErrno(error, 'ENOTTY', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ESRCH', 'EINVAL')) throw error
    }
  })
}

function readAttributes(fd: number): Buffer {
  const attributes = Buffer.alloc(FSXATTR_BYTES)
  libc().ioctl(fd, FS_IOC_FSGETXATTR, attributes)
  return attributes
}

/** A project without files and limits. */
function findFreeProject(fd: number): number {
  for (let tries = 0; tries < MAX_TRIES; tries += 1) {
    const project = randomInt(FIRST_PROJECT, LAST_PROJECT)
    const quota = Buffer.alloc(QUOTA_BYTES)
    try {
      libc().quotactlFd(fd, command(Q_GETQUOTA), project, quota)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
      return project
    }
    if (quota.subarray(0, VALID_OFFSET).every((byte) => byte === 0)) return project
  }
  throw new Error('no project is free')
}

/** struct if_dqblk: hard and soft limit in KiB, 6 other numbers, and which of them to set. */
function setLimit(fd: number, project: number, blocks: number): void {
  const quota = Buffer.alloc(QUOTA_BYTES)
  quota.writeBigUInt64LE(BigInt(blocks), 0)
  quota.writeBigUInt64LE(BigInt(blocks), 8)
  quota.writeUInt32LE(BLOCK_LIMITS, VALID_OFFSET)
  libc().quotactlFd(fd, command(Q_SETQUOTA), project, quota)
}

function command(number: number): number {
  return number * 256 + PROJECTS
}
