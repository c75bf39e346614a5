import { mkdirSync, type Stats, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { kindOf } from './regular-file.ts'

const HINT = 'Choose another --root or --state.'

/**
 * Makes a directory that a user may have named, and those that it is in, where they are missing. Others may make the same at once. Not
 * mkdir's own `recursive`: on a file system that takes no directories, /proc for one, Node tries for ever, and a read-only one it reports as
 * ENOENT. @throws READ_ONLY, CONFIG_INVALID where something else is in the way, and system errors
 */
export function createDirectories(path: string, mode = 0o700): void {
  const stats = statOf(path)
  if (stats?.isDirectory() === true) return
  if (stats !== undefined) {
    throw new LoamError('CONFIG_INVALID', `make directory ${path}: it is ${kindOf(stats)}`, { hint: HINT })
  }
  if (dirname(path) !== path) createDirectories(dirname(path), mode)
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return
    // The directory that it is in is there: so says the kernel of file systems of its own.
    if (isErrno(error, 'ENOENT')) {
      throw new LoamError('READ_ONLY', `make directory ${path}: its file system does not allow directories`, {
        cause: error,
        hint: HINT,
      })
    }
    throw toLoamError(error, `make directory ${path}`)
  }
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false })
  } catch (error) {
    // A file is in the way: its turn comes.
    if (isErrno(error, 'ENOTDIR')) return undefined
    throw toLoamError(error, `make directory ${path}`)
  }
}
