import { realpathSync } from 'node:fs'
import { posix } from 'node:path'
import { LoamError } from 'loamfs'
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
 * last name of another path. @throws USAGE for a path that is not absolute or not normal, PATH_NOT_FOUND when its parent does not exist
 */
export function resolveTarget(given: string, field: string): Target {
  const isNormal = posix.isAbsolute(given) && posix.normalize(given).replace(/(?<=.)\/$/, '') === given
  if (!isNormal || given === '/' || given.includes('\0') || Buffer.byteLength(given) > MAX_PATH_BYTES)
    throw new LoamError(
      'USAGE',
      `read ${field}: ${JSON.stringify(given.slice(0, 200))} is not an absolute path`,
    )
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
    if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw error
    throw new LoamError('PATH_NOT_FOUND', `resolve ${given}: ${trusted} does not exist`, { cause: error })
  }
}

/** Returns whether the directory exists, or anything else in its place. */
export function isTargetThere(target: Target): boolean {
  return existsBeneath(target)
}

/** Creates the directory. @throws ROOTFS_UNMOUNTED when the path leads through a symlink, PATH_NOT_FOUND without its parent */
export function createTarget(target: Target): void {
  try {
    createDirectoryBeneath(target)
  } catch (error) {
    throw elsewhere(target, error)
  }
}

/** Unmounts what is mounted at the directory: the path belongs to volumes of this driver, and a lost store may have left one. */
export async function clearTarget({ absolute }: Target): Promise<void> {
  await unmountAllLater(absolute)
}

/** Unmounts what is mounted at the directory, and removes it; one that does not exist is not an error. @throws ROOTFS_UNMOUNTED when the path leads through a symlink, SYSTEM when it is not empty */
export async function removeTarget(target: Target): Promise<void> {
  await clearTarget(target)
  try {
    removeDirectoryBeneath(target)
  } catch (error) {
    throw elsewhere(target, error)
  }
}

function elsewhere({ absolute }: Target, error: unknown): unknown {
  if (isErrno(error, 'ENOENT'))
    return new LoamError('PATH_NOT_FOUND', `use ${absolute}: its parent does not exist`, { cause: error })
  if (!isErrno(error, 'ELOOP', 'EXDEV', 'ENOTDIR')) return error
  return new LoamError('ROOTFS_UNMOUNTED', `use ${absolute}: it leads elsewhere, or is not a directory`, {
    cause: error,
    hint: 'A pod that can write to the directories of the kubelet may have put a symlink there.',
  })
}
