import { unlinkSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'

/** Removes a small file. Returns whether it was there. */
export function unlinkIfThere(path: string): boolean {
  try {
    unlinkSync(path)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}
