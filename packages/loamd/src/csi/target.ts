import { realpathSync } from 'node:fs'
import { posix } from 'node:path'
import { type ErrorCode, LoamError } from 'loamfs'
import {
  createDirectoryBeneath,
  existsBeneath,
  isErrno,
  removeDirectoryBeneath,
  type RootedPath,
  unmountAllLater,
} from 'loamfs/internal'

/** PATH_MAX with the NUL. */
const MAX_PATH_BYTES = 4095
/** NAME_MAX of all file systems that may be those of a kubelet. */
const MAX_NAME_BYTES = 255
/** Below this directory of the kubelet pods may write. Above it, an administrator may have put symlinks. */
const PODS = '/pods/'

/** The directory at which a volume is published. */
export interface Target extends RootedPath {
  /** The whole path, without symlinks. */
  readonly path: string
  readonly absolute: string
}

/**
 * Resolves the path that an orchestrator gives. Symlinks are followed only where pods cannot write: above the directory `pods` of the kubelet, or above the
 * last name of another path. @throws USAGE for a path that is not absolute, not normal or too long, PATH_NOT_FOUND when its parent does not exist
 */
export function resolveTarget(given: string, field: string): Target {
  const isNormal = posix.isAbsolute(given) && posix.normalize(given).replace(/(?<=.)\/$/, '') === given
  if (!isNormal || given === '/' || given.includes('\0') || Buffer.byteLength(given) > MAX_PATH_BYTES)
    throw new LoamError(
      'USAGE',
      `read ${field}: ${JSON.stringify(given.slice(0, 200))} is not an absolute path`,
    )
  if (given.split('/').some((name) => Buffer.byteLength(name) > MAX_NAME_BYTES))
    throw new LoamError('USAGE', `read ${field}: a name in it is longer than ${MAX_NAME_BYTES} bytes`)
  const pods = given.indexOf(PODS)
  const trusted = pods < 0 ? posix.dirname(given) : given.slice(0, pods + PODS.length - 1)
  const root = realPath(trusted, given)
  const path = given.slice(trusted === '/' ? 0 : trusted.length)
  return { root, path, absolute: posix.join(root, path) }
}

function realPath(trusted: string, given: string): string {
  try {
    return realpathSync(trusted)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG')) throw error
    throw new LoamError('PATH_NOT_FOUND', `resolve ${given}: ${trusted} does not exist`, { cause: error })
  }
}

/** Returns whether the directory exists, or anything else in its place. */
export function isTargetThere(target: Target): boolean {
  return existsBeneath(target)
}

/** Creates the directory. @throws ROOTFS_UNMOUNTED when the path leads through a symlink, PATH_NOT_FOUND without its parent, and other errors of `refusalOf` */
export function createTarget(target: Target): void {
  try {
    createDirectoryBeneath(target)
  } catch (error) {
    throw refusalOf(error, target)
  }
}

/** Unmounts what is mounted at the directory: the path belongs to volumes of this driver, and a lost store may have left one. */
export async function clearTarget({ absolute }: Target): Promise<void> {
  await unmountAllLater(absolute)
}

/** Unmounts what is mounted at the directory, and removes it; one that does not exist is not an error. @throws as `createTarget` does, ROOTFS_UNMOUNTED also when it is not empty */
export async function removeTarget(target: Target): Promise<void> {
  await clearTarget(target)
  try {
    removeDirectoryBeneath(target)
  } catch (error) {
    throw refusalOf(error, target)
  }
}

/** Converts an error of the system that a path may cause; others are returned. */
function refusalOf(cause: unknown, { absolute }: Target): unknown {
  const refuse = (code: ErrorCode, why: string, hint?: string) =>
    new LoamError(code, `use ${absolute}: ${why}`, { cause, hint })
  if (isErrno(cause, 'ENOENT')) return refuse('PATH_NOT_FOUND', 'its parent does not exist')
  if (isErrno(cause, 'ELOOP', 'EXDEV', 'ENOTDIR')) {
    const hint = 'A pod that can write to the directories of the kubelet may have put a symlink there.'
    return refuse('ROOTFS_UNMOUNTED', 'it leads elsewhere, or is not a directory', hint)
  }
  if (isErrno(cause, 'ENOTEMPTY', 'EEXIST')) {
    const hint = 'Files that are not those of a volume are kept. Move them away.'
    return refuse('ROOTFS_UNMOUNTED', 'it is not empty', hint)
  }
  if (isErrno(cause, 'EBUSY')) return refuse('VOLUME_BUSY', 'something was mounted there meanwhile')
  if (isErrno(cause, 'ENAMETOOLONG', 'EINVAL', 'EILSEQ'))
    return refuse('USAGE', 'its file system does not have such names')
  // The hints of these errors are for the store.
  if (isErrno(cause, 'EROFS')) return refuse('READ_ONLY', 'its file system is read-only')
  if (isErrno(cause, 'EACCES', 'EPERM')) {
    const hint = 'Its parent may be immutable (lsattr), or a security module of the kernel denies it (dmesg).'
    return refuse('PERMISSION_DENIED', 'the system does not permit it', hint)
  }
  return cause
}
