import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { discard, type StorePaths } from '../content/index.ts'
import { removeFolders, unmountAllLater } from '../linux/index.ts'
import type { RootfsLocation } from './backend.ts'
import type { LimitedFolders } from './limited-folders.ts'

/** Unmounts and removes the two folders of a root filesystem, and the limit of what is written to it. Returns whether there was anything. */
export async function removeRootfs(
  paths: StorePaths,
  { rootfsPath, scratchPath }: RootfsLocation,
  limited?: LimitedFolders,
): Promise<boolean> {
  const isThere = existsSync(rootfsPath) || existsSync(scratchPath)
  // Mounts first: a folder that contains a mount can be neither renamed nor removed.
  const wasMounted = await unmountAllLater(rootfsPath)
  await limited?.remove(scratchPath)
  // A mount point is empty.
  if (!(await removeFolders([rootfsPath]))) await discard(paths, rootfsPath)
  if (!(await removeUnusedScratch(scratchPath))) await discard(paths, scratchPath)
  return isThere || wasMounted
}

/** Removes the writable folders of a root filesystem that nothing was written to. Returns false for others. */
async function removeUnusedScratch(scratchPath: string): Promise<boolean> {
  const work = join(scratchPath, 'work')
  // overlayfs creates the inner one.
  return removeFolders([join(scratchPath, 'upper'), join(work, 'work')], [work], [scratchPath])
}
