import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  type Stats,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { faultOfFile, isErrno } from '../errors/index.ts'

/** Removes a folder in which nothing is left. */
export function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder)
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'ENOENT')) throw error
  }
}

const MAX_TRIES = 1000

/** Moves something to its place in a folder that is made for it. Others may find the folder empty meanwhile, and remove it. */
export function moveInto(from: string, to: string): void {
  for (let tried = 1; ; tried += 1) {
    try {
      mkdirSync(dirname(to), { recursive: true, mode: 0o700 })
      renameSync(from, to)
      return
    } catch (error) {
      if (!isErrno(error, 'ENOENT') || tried === MAX_TRIES || !existsSync(from)) throw error
    }
  }
}

/** Returns the size of a regular file in bytes, undefined when there is none. */
export function sizeOf(path: string): number | undefined {
  const stats = statOf(path)
  return stats?.isFile() === true ? stats.size : undefined
}

/** Returns what is at a path; undefined if nothing is, or if the file system cannot say it. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch (error) {
    if (faultOfFile(error) === undefined || isErrno(error, 'EACCES', 'EPERM')) throw error
    return undefined
  }
}

/** Creates a file that has a size and no blocks. */
export function createSparse(path: string, sizeBytes: number): void {
  const fd = openSync(path, 'wx', 0o600)
  try {
    ftruncateSync(fd, sizeBytes)
  } finally {
    closeSync(fd)
  }
}
