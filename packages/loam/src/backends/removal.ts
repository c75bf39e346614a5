import { existsSync } from 'node:fs'
import { discard, type StorePaths } from '../content/index.ts'
import { unmountAllLater } from '../linux/index.ts'
import type { RootfsLocation } from './backend.ts'

/** Unmounts and removes the two folders of a root filesystem. Returns whether there was anything. */
export async function removeRootfs(
  paths: StorePaths,
  { rootfsPath, scratchPath }: RootfsLocation,
): Promise<boolean> {
  const isThere = existsSync(rootfsPath) || existsSync(scratchPath)
  // Mounts first: a folder that contains a mount can be neither renamed nor removed.
  const wasMounted = await unmountAllLater(rootfsPath)
  await discard(paths, rootfsPath)
  await discard(paths, scratchPath)
  return isThere || wasMounted
}
