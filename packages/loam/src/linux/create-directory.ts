import { mkdirSync, type Stats, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { isRoot } from './system.ts'
import { kindOf } from './regular-file.ts'

const HINT = 'Choose another --root or --state.'
const OWN_HINT = 'Choose --root (LOAM_ROOT) and --state (LOAM_STATE) in a directory of this user.'

/**
 * Creates a directory that a user may have named, and its missing parents. Other processes may create the same ones at the same time. Not
 * mkdir's own `recursive`: on a file system without support for directories, such as /proc, Node retries for ever, and it reports a read-only one as
 * ENOENT. @throws READ_ONLY, CONFIG_INVALID if another file is in the way, and system errors
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
    // Its parent exists: the kernel answers this for its own file systems.
    if (isErrno(error, 'ENOENT')) {
      throw new LoamError('READ_ONLY', `make directory ${path}: its file system does not allow directories`, {
        cause: error,
        hint: HINT,
      })
    }
    throw failureOf(error, path)
  }
}

function failureOf(error: unknown, path: string): LoamError {
  const failure = toLoamError(error, `make directory ${path}`)
  if (failure.code !== 'PERMISSION_DENIED') return failure
  const { message, details } = failure
  return new LoamError(failure.code, message, { cause: error, details, hint: isRoot() ? HINT : OWN_HINT })
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false })
  } catch (error) {
    // A file is in the way: the call for that path reports it.
    if (isErrno(error, 'ENOTDIR')) return undefined
    throw failureOf(error, path)
  }
}
