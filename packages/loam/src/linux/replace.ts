import { renameSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { AT_FDCWD, libc } from './libc.ts'

const RENAME_EXCHANGE = 2

/**
 * Gives a file or directory the name of an existing one on the same file system, which is at `path` or `aside` afterwards. The name always has
 * one of the two, also after a kill; on a file system that cannot exchange names (NFS) it is missing for a moment, and after a kill at that
 * moment the existing one is at `aside`. On failure both are unchanged. @throws system errors
 */
export function replaceExisting(path: string, existing: string, aside: string): void {
  try {
    libc().renameat2(AT_FDCWD, path, AT_FDCWD, existing, RENAME_EXCHANGE)
    return
  } catch (error) {
    if (!isErrno(error, 'EINVAL', 'ENOSYS')) throw error
  }
  renameSync(existing, aside)
  try {
    renameSync(path, existing)
  } catch (error) {
    renameSync(aside, existing)
    throw error
  }
}
