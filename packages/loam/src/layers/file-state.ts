import { rmdirSync, statSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'

/** Removes a folder in which nothing is left. */
export function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder)
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'ENOENT')) throw error
  }
}

/** Returns the size of a file in bytes, undefined when it is not there. */
export function sizeOf(path: string): number | undefined {
  try {
    return statSync(path).size
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
