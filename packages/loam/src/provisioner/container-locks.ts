import { lockPath, type StorePaths } from '../content/index.ts'
import { FileLock } from '../linux/index.ts'
import type { ContainerId, MetadataStore } from '../metadata/index.ts'

/** Returns the path of the lock of a container. */
export function containerLock(paths: StorePaths, id: ContainerId): string {
  return lockPath(paths, 'container', id)
}

/** Removes the lock's file if its container does not exist. The caller holds the lock exclusively. */
export function removeLockOfGone(lock: FileLock, id: ContainerId, { containers }: MetadataStore): void {
  if (containers.find(id) === undefined) lock.remove()
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
