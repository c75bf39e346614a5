import { traced } from '../../activity/index.ts'
import type { StorePaths } from '../../content/index.ts'
import { type ChainId, type DiffId, parseChainId } from '../../image/index.ts'
import type { LayerStore } from '../../layers/index.ts'
import { type IdMapping, mountErofs } from '../../linux/index.ts'
import type { MetadataStore } from '../../metadata/index.ts'
import type { SharedMountOwner } from '../backend.ts'
import { MappedMounts } from '../mapped-mounts.ts'
import { SharedMounts } from './shared-mounts.ts'

export interface StackMountsOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly layers: LayerStore
  /** A folder for mount points, absolute; created when it is needed. */
  readonly stateFolder: string
}

/** The mount of a stack of layers, which stays until the lease is disposed. */
export interface LeasedStack {
  readonly path: string
  readonly lease: Disposable
}

/** A stack of layers, base first. The caller holds leases on the layers. */
export interface StackToMount {
  readonly chainId: ChainId
  readonly diffIds: readonly DiffId[]
  /** The user namespace that the files are for. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
}

/** A stack of layers that may have been unmounted, base first. The caller holds leases on the layers. */
export interface StackToRestore {
  readonly chainId: ChainId
  readonly diffIds: readonly DiffId[]
  /** The user namespaces that it is mounted for, besides that of this process. */
  readonly mappings: readonly IdMapping[]
}

/** Mounts stacks of layers, each as one read-only EROFS mount that all users share, and one more for each mapping of IDs. */
export class StackMounts implements SharedMountOwner {
  readonly #shared: SharedMounts
  readonly #mapped: MappedMounts
  readonly #layers: LayerStore

  constructor({ paths, metadata, layers, stateFolder }: StackMountsOptions) {
    const { layers: rows, snapshots } = metadata
    const isUsed = (source: string, mappingKey: string) => {
      const snapshot = snapshotOf(source)
      if (snapshot !== undefined) return snapshots.isMappedFolderUsed(snapshot, mappingKey)
      return rows.isMappedMountUsed(stackOf(source), mappingKey)
    }
    this.#shared = new SharedMounts({ paths, stateFolder, isUsed: (chainId) => rows.isMountUsed(chainId) })
    this.#mapped = new MappedMounts({ paths, stateFolder, isUsed, mappingKeys: () => rows.idMappings() })
    this.#layers = layers
  }

  /** Ensures that a stack is mounted, and returns the path, with a lease that keeps it mounted until released. */
  async lease(
    { chainId, diffIds, idMapping }: StackToMount,
    signal: AbortSignal | undefined,
  ): Promise<LeasedStack> {
    const stack = await this.#lease(chainId, diffIds, signal)
    if (idMapping === undefined) return stack
    const source = { name: nameOf(chainId), path: stack.path }
    using leases = new DisposableStack()
    leases.use(stack.lease)
    const { path, lease } = await this.#mapped.lease(source, idMapping, signal)
    leases.use(lease)
    return { path, lease: leases.move() }
  }

  async #lease(
    chainId: ChainId,
    diffIds: readonly DiffId[],
    signal: AbortSignal | undefined,
  ): Promise<LeasedStack> {
    const { artifacts } = this.#layers
    // Also if the stack is mounted already: the process that answers its reads may have ended.
    const serving = await this.#layers.beginToServe(diffIds, signal)
    const prepare = async () =>
      traced('stack.mount', { chainId }, async () => {
        const { path: image, devices } = await artifacts.mergedImage(chainId, diffIds, signal)
        const files = devices.map(({ path }) => path)
        await serving?.served
        return (target: string) => {
          // Reads through a loop device do not wait for data.
          mountErofs({ image, devices: files, target, ...(serving === undefined ? {} : { by: 'file' }) })
        }
      })
    const isCurrent = () => artifacts.isCurrent(chainId, 'merged')
    using leases = new DisposableStack()
    const { path, lease } = await this.#shared.lease(chainId, { prepare, isCurrent }, signal)
    leases.use(lease)
    await serving?.served
    return { path, lease: leases.move() }
  }

  /** Remounts a stack whose mounts are gone or hidden by others: its own, and one for each mapping. Returns the paths of those that were not mounted. */
  async restore(
    { chainId, diffIds, mappings }: StackToRestore,
    signal: AbortSignal | undefined,
  ): Promise<string[]> {
    const image = this.#layers.artifacts.path(chainId, 'merged')
    const source = { name: nameOf(chainId), path: this.#shared.pathOf(chainId) }
    const isShown = this.#shared.isShown(chainId, image)
    if (!isShown) this.#shared.clear(chainId, image)
    const { path, lease } = await this.#lease(chainId, diffIds, signal)
    using _lease = lease
    const restored = isShown ? [] : [path]
    for (const idMapping of mappings) {
      if (this.#mapped.find(source, idMapping) !== undefined) continue
      const mapped = await this.#mapped.lease(source, idMapping, signal)
      mapped.lease.release()
      restored.push(mapped.path)
    }
    return restored
  }

  /**
   * Ensures that the directory of an unpacked snapshot is mounted with mapped IDs, and returns the path. The row of a snapshot that needs it keeps it
   * mounted.
   */
  async showFolder(id: number, folder: string, idMapping: IdMapping): Promise<string> {
    const { path, lease } = await this.#mapped.lease(
      { name: folderName(id), path: folder },
      idMapping,
      undefined,
    )
    lease.release()
    return path
  }

  /** Unmounts the directory of an unpacked snapshot, unless a snapshot needs it. */
  releaseFolder(id: number, idMapping: IdMapping): void {
    this.#mapped.release(folderName(id), idMapping.key)
  }

  /** Where a stack is mounted when it is. */
  pathOf(chainId: ChainId): string {
    return this.#shared.pathOf(chainId)
  }

  release(chainId: ChainId, idMapping?: IdMapping): void {
    if (idMapping !== undefined) this.#mapped.release(nameOf(chainId), idMapping.key)
    this.#shared.release(chainId)
  }

  sweep(): string[] {
    return [...this.#mapped.sweep(), ...this.#shared.sweep()]
  }
}

/** Without a colon, which separates the folders of an overlay. */
function nameOf(chainId: ChainId): string {
  return chainId.replace(':', '-')
}

function stackOf(name: string): ChainId {
  return parseChainId(name.replace('-', ':'), 'name of a mount')
}

function folderName(id: number): string {
  return `snapshot-${id}`
}

function snapshotOf(name: string): number | undefined {
  const [, id] = /^snapshot-(\d+)$/.exec(name) ?? []
  return id === undefined ? undefined : Number(id)
}
