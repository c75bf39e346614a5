// Mount points that several users share: the lock of one says who creates or removes it.
import { rmdirSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { FileLock, unmountAll } from '../linux/index.ts'

/** Unmounts what is mounted at a path, and removes its directory. */
export function removeMountPoint(path: string): void {
  unmountAll(path)
  try {
    rmdirSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

/**
 * Calls `remove` with the lock of a mount point, unless the mount point is used. A process that creates or removes a user of it holds the lock, and handles
 * the mount point itself; one that found a user may not see that it is gone, so this looks again.
 */
export function releaseUnused(
  lockFile: string,
  isUsed: () => boolean,
  remove: (lock: FileLock) => void,
): void {
  while (!isUsed()) {
    using lock = FileLock.tryAcquire(lockFile)
    if (lock === undefined) return
    if (isUsed()) continue
    remove(lock)
    return
  }
}
