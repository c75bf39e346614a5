import { traced } from '../../activity/index.ts'
import type { ChainId, DiffId } from '../../image/index.ts'
import type { LayerStore } from '../../layers/index.ts'
import { type FileLock, mountErofs } from '../../linux/index.ts'
import type { SharedMounts } from './shared-mounts.ts'

/** Mounts stacks of layers, each as one read-only EROFS mount that all users share. */
export class StackMounts {
  readonly shared: SharedMounts
  readonly #layers: LayerStore

  constructor(shared: SharedMounts, layers: LayerStore) {
    this.shared = shared
    this.#layers = layers
  }

  /**
   * Ensures that a stack is mounted, base first, and returns the path, with a lease that keeps it mounted until released. The caller holds leases on the layers.
   */
  async lease(
    chainId: ChainId,
    diffIds: readonly DiffId[],
    signal: AbortSignal | undefined,
  ): Promise<{ path: string; lease: FileLock }> {
    const mount = async (target: string) =>
      traced('stack.mount', { chainId }, async () => {
        const image = await this.#layers.artifacts.mergedImage(chainId, diffIds, signal)
        mountErofs({ ...image, target })
      })
    const isCurrent = () => !this.#layers.artifacts.hasOutdated(chainId, 'merged')
    return this.shared.lease(chainId, { mount, isCurrent }, signal)
  }

  /** Remounts a stack whose mount is gone or hidden by another one. Returns its path, undefined if it is mounted. The caller holds leases on the layers. */
  async restore(
    chainId: ChainId,
    diffIds: readonly DiffId[],
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    const image = this.#layers.artifacts.path(chainId, 'merged')
    if (this.shared.isShown(chainId, image)) return undefined
    this.shared.clear(chainId, image)
    const { path, lease } = await this.lease(chainId, diffIds, signal)
    lease.release()
    return path
  }
}
