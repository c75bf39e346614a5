import { closeSync, constants, fsyncSync, openSync, readdirSync, statSync, writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { isErrno } from '../errors/index.ts'
import { libc } from './libc.ts'

/** Makes the names in a directory survive a power cut. Holds this thread up: for what is done before anything is served. */
export function syncDirectorySync(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Makes the names in a directory survive a power cut, without holding this thread up. */
export async function syncDirectory(path: string): Promise<void> {
  await syncFile(path)
}

/** Makes a file survive a power cut, without holding this thread up. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes all that was written to the file system of a path survive a power cut; for trees of many files. Holds this thread up: for workers. */
export function syncFileSystem(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    libc().syncfs(fd)
  } finally {
    closeSync(fd)
  }
}

const SYNC_FILE_RANGE_WRITE = 2

/** Starts writing a stretch of a file to the disk and does not wait, so that a later fsync finds little to do. */
export function startWriteback(fd: number, offset: number, bytes: number): void {
  libc().syncFileRange(fd, offset, bytes, SYNC_FILE_RANGE_WRITE)
}

/** Writes a whole file and waits for the disk. The name may not exist. */
export function writeNewFileDurably(path: string, bytes: Uint8Array): void {
  const fd = openSync(path, 'wx', 0o600)
  try {
    let written = 0
    while (written < bytes.length) written += writeSync(fd, bytes, written)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/**
 * Takes the blocks of a file that this process has open for writing, without changing what is in it. It goes through the descriptor that is
 * there: to open and close another one would drop every POSIX lock that this process has on the file (fcntl(2)). A file system that cannot
 * is fine. @throws ENOSPC and other system errors
 */
export function allocateOpenFile(path: string): void {
  const file = statSync(path, { bigint: true })
  const fd = readdirSync('/proc/self/fd').find((name) => {
    const opened = statSync(`/proc/self/fd/${name}`, { bigint: true, throwIfNoEntry: false })
    return opened !== undefined && opened.ino === file.ino && opened.dev === file.dev
  })
  if (fd === undefined) return
  try {
    libc().fallocate(Number(fd), 0, 0, Number(file.size))
  } catch (error) {
    // EOPNOTSUPP, by the name that Node has for it.
    if (!isErrno(error, 'ENOTSUP', 'ENOSYS')) throw error
  }
}
