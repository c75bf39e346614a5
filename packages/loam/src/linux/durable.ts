import { closeSync, constants, fsyncSync, openSync, readdirSync, statSync, writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { isErrno } from '../errors/index.ts'
import { libc } from './libc.ts'

/** Syncs a directory, so that its names survive a power cut. Blocks this thread: for work before anything is served. */
export function syncDirectorySync(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Syncs a directory, so that its names survive a power cut, without blocking this thread. */
export async function syncDirectory(path: string): Promise<void> {
  await syncFile(path)
}

/** Syncs a file, so that it survives a power cut, without blocking this thread. Does not wait for the writer of a pipe. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Syncs the file system of a path, so that all data written to it survives a power cut; for trees of many files. Blocks this thread: for workers. */
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

/** Writes a whole file and waits for the disk. The name must not exist. */
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
 * Allocates the blocks of a file that this process has open for writing, without changing its content. It uses the existing descriptor,
 * because opening and closing another one would drop every POSIX lock of this process on the file (fcntl(2)). A file system without
 * support for it is not an error. @throws ENOSPC and other system errors
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
    // Node's name for EOPNOTSUPP.
    if (!isErrno(error, 'ENOTSUP', 'ENOSYS')) throw error
  }
}
