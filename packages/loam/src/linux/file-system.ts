import { randomFillSync, randomUUID } from 'node:crypto'
import {
  closeSync,
  linkSync,
  openSync,
  rmSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { syncDirectorySync } from './durable.ts'
import { FileLock } from './file-lock.ts'
import { libc } from './libc.ts'
import { readMountTable } from './mount-table.ts'
import { isMachineRoot } from './rootless.ts'

/** The kernel's information about the file system of a folder. */
export interface FileSystemInfo {
  /** As in mountinfo: ext4, xfs, overlay… */
  readonly type: string
  /** Its mount point. */
  readonly mountPoint: string
  /** Of the mount and of the file system: ro, noexec, nosuid, nodev… */
  readonly options: readonly string[]
  /** Bytes that a user may still use. */
  readonly freeBytes: number
  /** 0 also where the file system has no such limit. */
  readonly freeInodes: number
}

/** Examines the file system of a folder; changes nothing. @throws system errors */
export function examineFileSystem(folder: string): FileSystemInfo {
  const covering = readMountTable().filter(
    ({ target }) => target === '/' || folder === target || folder.startsWith(`${target}/`),
  )
  // Of those that cover it, the one nearest to it; of those at one place the last.
  const mount = covering.toSorted((a, b) => a.target.length - b.target.length).at(-1)
  const { bavail, bsize, ffree } = statfsSync(folder)
  return {
    type: mount?.type ?? 'unknown',
    mountPoint: mount?.target ?? '/',
    options: [...new Set([...(mount?.options ?? []), ...(mount?.superOptions.split(',') ?? [])])],
    freeBytes: bavail * bsize,
    freeInodes: ffree,
  }
}

/** Prefix of the names of files and folders that probe a file system; one that a killed process has left belongs to no store. */
export const PROBE_PREFIX = '.loam-doctor-'
/** Prefix of the names of files that only probe for free space; any process may remove them. */
export const SPACE_PROBE_PREFIX = `${PROBE_PREFIX}space-`
/** As much space as opening a database needs. */
const PROBE_BYTES = 64 << 10

/** Returns whether a folder has no blocks, inodes or quota left: it tries to write, because statfs does not report quotas. */
export function isFull(folder: string): boolean {
  return isErrno(findWriteFault(folder), 'ENOSPC', 'EDQUOT')
}

/** Returns the error of a new file in a folder that gets data behind its first bytes; undefined if there is none. */
export function findWriteFault(folder: string, offset = 0): unknown {
  const path = join(folder, `${SPACE_PROBE_PREFIX}${randomUUID()}`)
  let fd: number | undefined
  try {
    fd = openSync(path, 'wx')
    const data = randomFillSync(Buffer.alloc(PROBE_BYTES))
    // A limit of the size of files lets a part of it through.
    for (let done = 0; done < data.length; )
      done += writeSync(fd, data, done, data.length - done, offset + done)
    return undefined
  } catch (error) {
    return error
  } finally {
    if (fd !== undefined) closeSync(fd)
    removeProbe(path)
  }
}

/** The result is valid even if the probe cannot be removed. */
function removeProbe(path: string): void {
  try {
    rmSync(path, { force: true })
  } catch {
    // The next `sweepUnfinished` removes it.
  }
}

interface Check {
  /** What it means that the check fails. */
  readonly lacks: string | ((error: unknown) => string)
  readonly check: (folder: string) => void
}

const CHECKS: readonly Check[] = [
  {
    lacks: (error) => {
      if (isErrno(error, 'ENOTSUP'))
        return 'it does not support extended attributes: copy and overlay lose file capabilities'
      return isErrno(error, 'EPERM')
        ? 'this process lacks CAP_SYS_ADMIN: it may not set extended attributes'
        : 'extended attributes cannot be set'
    },
    check: (folder) => {
      const path = join(folder, 'xattrs')
      writeFileSync(path, '')
      const value = Buffer.from('x')
      libc().lsetxattr(path, isMachineRoot() ? 'trusted.loam' : 'user.loam', value, value.length, 0)
    },
  },
  {
    lacks: 'its locks do not work: two processes could do the same work',
    check: (folder) => {
      const path = join(folder, 'lock')
      using held = FileLock.tryAcquire(path)
      using second = FileLock.tryAcquire(path)
      if (held === undefined || second !== undefined) throw new Error('a lock was given twice')
    },
  },
  {
    lacks: 'it does not support symbolic or hard links, which copy and overlay need',
    check: (folder) => {
      writeFileSync(join(folder, 'file'), '')
      symlinkSync('file', join(folder, 'symlink'))
      linkSync(join(folder, 'file'), join(folder, 'link'))
    },
  },
  {
    lacks: 'it cannot sync a directory: a power failure may lose acknowledged data',
    check: syncDirectorySync,
  },
]

/** Tries the operations that a store needs in a folder that is removed afterwards. Returns each failure with its reason. */
export function probeFileSystem(folder: string): string[] {
  return CHECKS.flatMap(({ lacks, check }) => {
    try {
      check(folder)
      return []
    } catch (error) {
      const problem = typeof lacks === 'string' ? lacks : lacks(error)
      return [`${problem} (${error instanceof Error ? error.message : String(error)})`]
    }
  })
}
