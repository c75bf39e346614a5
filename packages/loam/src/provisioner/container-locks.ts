import { lockPath, type StorePaths } from '../content/index.ts'
import { FileLock } from '../linux/index.ts'
import type { ContainerId } from '../metadata/index.ts'

/** Returns the path of the lock of a container. */
export function containerLock(paths: StorePaths, id: ContainerId): string {
  return lockPath(paths, 'container', id)
}

/** Takes the locks of containers, shared, in the order given: outer containers before those nested in them. */
export async function lockContainers(
  paths: StorePaths,
  ids: readonly ContainerId[],
  options: { signal: AbortSignal | undefined },
): Promise<Disposable> {
  const stack = new DisposableStack()
  try {
    for (const id of ids) {
      stack.use(await FileLock.acquire(containerLock(paths, id), { ...options, shared: true }))
    }
    return stack
  } catch (error) {
    stack.dispose()
    throw error
  }
}
