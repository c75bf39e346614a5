import { randomUUID } from 'node:crypto'
import { dirname, join } from 'node:path'
import { traced } from '../activity/index.ts'
import { type Backend, chooseBackend, type LayerStack, type Mounts, type Probe } from '../backends/index.ts'
import type { StorePaths, StoreReserve } from '../content/index.ts'
import { isLoamError, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import type { LayerStore } from '../layers/index.ts'
import {
  createFolders,
  FileLock,
  type IdMapping,
  readMountsById,
  type RootedPath,
  TimeSlice,
} from '../linux/index.ts'
import {
  ancestorsOf,
  type ContainerId,
  isContainerId,
  type MetadataStore,
  type RootfsRecord,
} from '../metadata/index.ts'
import type { StoredImage } from '../stores/index.ts'
import { removeContainerFolder, removeEmptyFolders } from './container-folders.ts'
import { containerLock, lockContainers, removeLockOfGone } from './container-locks.ts'
import { rootfsIdMapping } from './rootfs-id-mapping.ts'
import { recoverContainers, type RecoveryOptions, type RecoveryReport } from './recovery.ts'
import { hideVolume, isVolume, isVolumeShown, showVolume, type VolumeContext } from './volume.ts'

export interface ProvisionerOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  /** The reserve of space for removing things on a full disk. */
  readonly reserve: StoreReserve
  readonly backends: readonly Backend[]
  readonly bootId: string
  readonly layers: Pick<LayerStore, 'complete'>
}

export interface ProvisionOptions {
  readonly containerId: ContainerId
  readonly image: StoredImage
  /** The name that the image was requested by. */
  readonly reference: string
  /** Undefined: the best one that works on this machine. */
  readonly backend?: string | undefined
  readonly isReadOnly: boolean
  /** The bytes that may be written to it. Undefined: as many as the disk has. */
  readonly sizeBytes?: number | undefined
  /** Whether processes outside of Loam's user namespace use it; then a backend without mounts is the default. */
  readonly isUsedOutside?: boolean | undefined
  /** The user namespace of the container. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
  /** Directory to mount it at in addition, until it is destroyed; it exists already. */
  readonly volumePath?: RootedPath | undefined
  /** Directory in the root filesystem to mount there. Undefined: all of it. */
  readonly volumeSubPath?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/** A root filesystem that is ready. */
export interface ProvisionedRootfs {
  /** Id of this root filesystem. */
  readonly uuid: string
  /** Id of the container. */
  readonly containerId: ContainerId
  /** Absolute path of the root filesystem. */
  readonly rootfsPath: string
  /** Name of its backend. */
  readonly backend: string
  /** Whether it is read-only. */
  readonly isReadOnly: boolean
  /** Its target as a volume; undefined if it is not one. */
  readonly volumeTarget: string | undefined
  /** Directories with the container's writes, for disk accounting. */
  readonly ephemeralVolumes: readonly string[]
}

/** A container with its root filesystems. */
export interface ContainerInfo {
  /** Its id. */
  readonly id: ContainerId
  /** Id of the container that it is nested in; undefined for none. */
  readonly parentId: ContainerId | undefined
  /** When it was recorded, in milliseconds since 1970. */
  readonly createdAtMs: number
  /** Its root filesystems, volumes among them. */
  readonly rootfses: readonly RootfsInfo[]
}

/** A root filesystem, and whether it is in place now. */
export interface RootfsInfo extends RootfsRecord {
  /** Whether it is complete, and mounted where its row says. */
  readonly isStanding: boolean
}

/**
 * Creates and removes the root filesystems of containers. The row is written before anything is created, and removed
 * after everything is removed, so that a recovery finds everything that a crash has left.
 * Locks, outermost container first: provisioning holds the locks of a container and of those it is nested in
 * shared, so that several root filesystems of a container can be created at once; destroying holds its own exclusively.
 */
export class Provisioner {
  readonly #options: ProvisionerOptions
  readonly #destroying = new Map<ContainerId, Promise<boolean>>()

  constructor(options: ProvisionerOptions) {
    this.#options = options
  }

  /**
   * Returns for each backend whether it works on this machine. On a full disk, one that was not tried before cannot be tried: that is its reason, and
   * is not remembered.
   */
  probe(): { readonly name: string; readonly probe: Probe }[] {
    return this.#options.backends.map((backend) => ({ name: backend.name, probe: probeNow(backend) }))
  }

  /** Tries the backends, on a full disk in the room that the store reserves, so that `probe` knows the answers from then on. */
  tryBackends(): void {
    const { backends, reserve } = this.#options
    try {
      reserve.free(() => backends.map((backend) => backend.probe()))
    } catch (error) {
      if (!isLoamError(error, 'NO_SPACE')) throw error
    }
  }

  /** Returns the backend that would be chosen, before the image is known. @throws BACKEND_* */
  chooseBackend(
    asked: string | undefined,
    task: Pick<ProvisionOptions, 'idMapping' | 'sizeBytes' | 'isUsedOutside'> = {},
  ): Backend {
    return chooseBackend(this.#options.backends, asked, task)
  }

  /** @throws BACKEND_UNSUPPORTED with the reason if a backend cannot show an image */
  requireAccepted(backend: string, stack: LayerStack): void {
    chooseBackend(this.#options.backends, backend, { stack })
  }

  /** Creates a root filesystem from an image for a container. Nothing is left on failure. @throws BACKEND_*, CANCELED and system errors */
  async provision(options: ProvisionOptions): Promise<ProvisionedRootfs> {
    const { containerId, image, idMapping, sizeBytes, isUsedOutside, signal } = options
    const stack: LayerStack = { chainId: image.chainId, layers: image.layers }
    const backend = chooseBackend(this.#options.backends, options.backend, {
      stack,
      idMapping,
      sizeBytes,
      isUsedOutside,
    })
    using _locks = await lockContainers(this.#options.paths, ancestorsOf(containerId), { signal })
    const record = this.#createRecord(options, backend.name)
    await this.#options.metadata.containers.putRootfs(record, backend.shared !== undefined)
    try {
      await createFolders([dirname(record.rootfsPath), dirname(record.scratchPath)])
      const { isReadOnly } = options
      if (!backend.showsPartial) await this.#complete(stack, signal)
      const result = await traced('rootfs.create', { backend: backend.name }, async () =>
        backend.provision({ ...record, stack, isReadOnly, idMapping, signal }),
      )
      if (isVolume(record)) await showVolume(record, this.#volumeContext(record))
      await this.#options.metadata.containers.setReady(record.uuid, this.#options.bootId)
      // Its caller may be gone, and would not know that it exists.
      throwIfAborted(signal, 'hand over a root filesystem')
      const { uuid, rootfsPath, volumeTarget } = record
      return {
        ...{
          uuid,
          containerId,
          rootfsPath,
          backend: backend.name,
          isReadOnly: record.isReadOnly,
          volumeTarget,
        },
        ephemeralVolumes: result.ephemeralVolumes,
      }
    } catch (error) {
      const failure = toLoamError(error, `provision ${options.reference} for ${containerId}`)
      await this.#undo(record, backend)
      throw failure
    }
  }

  async #complete({ layers }: LayerStack, signal: AbortSignal | undefined): Promise<void> {
    const partial = layers.filter(({ data }) => data === 'partial')
    await this.#options.layers.complete(
      partial.map(({ diffId }) => diffId),
      signal,
    )
  }

  #createRecord(
    {
      containerId,
      image,
      reference,
      isReadOnly,
      idMapping,
      sizeBytes,
      volumePath,
      volumeSubPath,
    }: ProvisionOptions,
    backend: string,
  ): RootfsRecord {
    const uuid = randomUUID()
    const folder = this.#containerPath(containerId)
    return {
      uuid,
      containerId,
      state: 'provisioning',
      backend,
      reference,
      imageDigest: image.record.digest,
      chainId: image.chainId,
      layers: image.layers.map(({ diffId }) => diffId),
      rootfsPath: join(folder, 'rootfses', backend, uuid),
      scratchPath: join(folder, 'scratch', uuid),
      isReadOnly,
      sizeBytes,
      idMapping: idMapping?.key,
      volumeTarget: volumePath === undefined ? undefined : join(volumePath.root, volumePath.path),
      volumeRoot: volumePath?.root,
      volumeSubPath,
      volumeMount: undefined,
      bootId: this.#options.bootId,
      createdAtMs: Date.now(),
    }
  }

  #volumeContext({ uuid }: RootfsRecord): VolumeContext {
    const { bootId, metadata } = this.#options
    return {
      bootId,
      rootfses: () => metadata.containers.rootfses(),
      isStanding: (record) => this.isStanding(record),
      record: async (mount) => metadata.containers.setVolumeMount(uuid, mount, bootId),
    }
  }

  /** Returns the folder of a container in the store; it is removed with the container. */
  folderOf(id: ContainerId): string {
    return this.#containerPath(id)
  }

  /** Nested containers are in the folder of their parent. */
  #containerPath(id: ContainerId): string {
    return join(
      this.#options.paths.containers,
      ...id.split('/').flatMap((part, index) => (index === 0 ? [part] : ['containers', part])),
    )
  }

  /** A clean-up that fails must not hide why it was needed; the row stays, and the next recovery tries again. */
  async #undo(record: RootfsRecord, backend: Backend): Promise<void> {
    try {
      await this.#options.reserve.freeLater(async () => {
        await this.#removeRootfs(record, backend)
        await this.#removeContainerIfEmpty(record.containerId)
      })
    } catch {
      // recover() reports it.
    }
  }

  async #removeRootfs(record: RootfsRecord, backend: Backend): Promise<void> {
    const { metadata, bootId } = this.#options
    const { containers } = metadata
    await containers.setDestroying(record.uuid, record.bootId)
    hideVolume(record, { bootId, rootfses: () => containers.rootfses() })
    await backend.destroy(record)
    await containers.removeRootfs(record.uuid)
    const { chainId } = record
    if (chainId !== undefined) backend.shared?.release(chainId, rootfsIdMapping(record))
  }

  /**
   * Removes the rows and folders of containers without root filesystems, from the inside out. A container that another process has locked is kept.
   */
  async #removeContainerIfEmpty(id: ContainerId): Promise<void> {
    const { containers } = this.#options.metadata
    for (const current of ancestorsOf(id).toReversed()) {
      if (containers.rootfses(current).length > 0 || containers.children(current).length > 0) return
      await containers.remove(current)
      removeEmptyFolders(this.#containerPath(current))
    }
  }

  /**
   * Destroys a container with all its root filesystems, the containers nested in it first. Returns false if the container does not exist. May be
   * called again at any time, also concurrently. @throws DESTROY_FAILED with all failures; everything else is removed then
   */
  async destroy(id: ContainerId, signal?: AbortSignal): Promise<boolean> {
    const running = this.#destroying.get(id)
    if (running !== undefined) {
      try {
        return await running
      } catch (error) {
        // The caller that began it may have returned.
        if (!isLoamError(error, 'CANCELED') || signal?.aborted === true) throw error
        return this.destroy(id, signal)
      }
    }
    const destroying = this.#options.reserve.freeLater(async () => this.#destroyOnce(id, signal))
    this.#destroying.set(id, destroying)
    try {
      return await destroying
    } finally {
      this.#destroying.delete(id)
    }
  }

  async #destroyOnce(id: ContainerId, signal: AbortSignal | undefined): Promise<boolean> {
    if (this.#options.metadata.containers.find(id) === undefined) return false
    using _outer = await lockContainers(this.#options.paths, ancestorsOf(id).slice(0, -1), { signal })
    return await this.#destroyLocked(id, signal)
  }

  async #destroyLocked(id: ContainerId, signal: AbortSignal | undefined): Promise<boolean> {
    const { containers } = this.#options.metadata
    using own = await FileLock.acquire(containerLock(this.#options.paths, id), { signal })
    // The previous holder of the lock may have destroyed it.
    if (containers.find(id) === undefined) return false
    const failures: string[] = []
    for (const child of containers.children(id)) {
      await collect(failures, async () => this.#destroyLocked(child.id, signal))
    }
    // Volumes may be mounted in the root filesystem, which was created before them.
    for (const record of containers.rootfses(id).toReversed()) {
      await collect(failures, async () => {
        await this.#removeRootfs(record, this.#backendOf(record))
      })
    }
    if (failures.length > 0) {
      throw new LoamError('DESTROY_FAILED', `destroy ${id}: ${failures.join('; ')}`, {
        hint: 'The rest was removed. `loam destroy` or `loam recover` retries.',
      })
    }
    await containers.remove(id)
    await removeContainerFolder(this.#containerPath(id))
    removeLockOfGone(own, id, this.#options.metadata)
    return true
  }

  /** Removes one root filesystem of a container, and the container with its last one. @throws the errors of its backend */
  async destroyRootfs(id: ContainerId, uuid: string, signal?: AbortSignal): Promise<void> {
    using _outer = await lockContainers(this.#options.paths, ancestorsOf(id).slice(0, -1), { signal })
    using _own = await FileLock.acquire(containerLock(this.#options.paths, id), { signal })
    const record = this.#options.metadata.containers.rootfses(id).find((rootfs) => rootfs.uuid === uuid)
    if (record === undefined) return
    await this.#removeRootfs(record, this.#backendOf(record))
    await this.#removeContainerIfEmpty(id)
  }

  #backendOf(record: RootfsRecord): Backend {
    const backend = this.#options.backends.find(({ name }) => name === record.backend)
    if (backend !== undefined) return backend
    throw new LoamError(
      'BACKEND_UNKNOWN',
      `remove ${record.rootfsPath}: its backend ${record.backend} is unknown`,
      {
        hint: 'It was created by another version of Loam.',
      },
    )
  }

  /** Keeps a container from being destroyed until the result is disposed. */
  async lease(id: ContainerId, signal?: AbortSignal): Promise<Disposable> {
    return lockContainers(this.#options.paths, ancestorsOf(id), { signal })
  }

  /** Lists the IDs of containers, as `list`, without a look at their root filesystems. */
  ids(): ContainerId[] {
    return this.#options.metadata.containers.ids()
  }

  /** Lists containers; a parent comes before its children. Other work runs meanwhile. */
  async list(): Promise<ContainerInfo[]> {
    const ids = this.ids()
    const mounts = ids.length === 0 ? undefined : readMountsById()
    const slice = new TimeSlice()
    const listed: ContainerInfo[] = []
    for (const id of ids) {
      await slice.rest()
      const found = this.#find(id, mounts)
      if (found !== undefined) listed.push(found)
    }
    return listed
  }

  /** Returns the container with an ID; undefined for a text that is not an ID. */
  find(id: string): ContainerInfo | undefined {
    return isContainerId(id) ? this.#find(id) : undefined
  }

  /** `mounts`: a table that was read some time ago. */
  #find(id: ContainerId, mounts?: Mounts): ContainerInfo | undefined {
    const { containers } = this.#options.metadata
    const container = containers.find(id)
    if (container === undefined) return undefined
    // One that the table lacks may have been mounted since.
    const isStanding = (rootfs: RootfsRecord) =>
      (mounts !== undefined && this.isStanding(rootfs, mounts)) || this.isStanding(rootfs)
    const rootfses = containers
      .rootfses(id)
      .map((rootfs) => ({ ...rootfs, isStanding: rootfs.state === 'ready' && isStanding(rootfs) }))
    return { ...container, rootfses }
  }

  /** Returns whether a process is creating or removing a container now. */
  isBusy(id: ContainerId): boolean {
    using lock = FileLock.tryAcquire(containerLock(this.#options.paths, id))
    if (lock === undefined) return true
    removeLockOfGone(lock, id, this.#options.metadata)
    return false
  }

  /** Returns whether a root filesystem is mounted as its row says, and also at its target if it is a volume. Asks the kernel: mounts disappear without a reboot, too. */
  isStanding(record: RootfsRecord, mounts?: Mounts): boolean {
    const backend = this.#options.backends.find(({ name }) => name === record.backend)
    // Root filesystems of a backend of another version count as complete.
    return (
      backend === undefined ||
      (backend.isStanding(record, mounts) && isVolumeShown(record, this.#volumeContext(record)))
    )
  }

  /** @throws ROOTFS_UNMOUNTED when a root filesystem is being created or removed, or was left so */
  requireReady({ state, rootfsPath }: RootfsRecord, attempted: string): void {
    if (state === 'ready') return
    throw new LoamError('ROOTFS_UNMOUNTED', `${attempted}: ${rootfsPath} is not complete (${state})`, {
      hint: '`loam recover` removes incomplete root filesystems.',
    })
  }

  /** @throws ROOTFS_UNMOUNTED when a root filesystem is not complete, or not mounted as its row says */
  requireStanding(record: RootfsRecord, attempted: string): void {
    this.requireReady(record, attempted)
    if (this.isStanding(record)) return
    throw new LoamError('ROOTFS_UNMOUNTED', `${attempted}: ${record.rootfsPath} is not mounted`, {
      hint: '`loam recover` remounts it with its changes.',
    })
  }

  /**
   * Cleans up after a crash and remounts after a reboot: undoes unfinished root filesystems, keeps finished ones and remounts them if they are not
   * mounted or something else is mounted in their place, and removes folders and mounts without a row. With `known`, destroys containers that are
   * neither in it nor a parent of one in it. Does not touch the work of living processes. Recovers each container separately: a failure is reported
   * and does not stop the others.
   */
  async recover(options: RecoveryOptions): Promise<RecoveryReport> {
    return recoverContainers(
      {
        ...this.#options,
        lockOf: (id) => containerLock(this.#options.paths, id),
        backendOf: (record) => this.#backendOf(record),
        isStanding: (record) => this.isStanding(record),
        volumeContext: (record) => this.#volumeContext(record),
        remove: async (record) => {
          await this.#removeRootfs(record, this.#backendOf(record))
          await this.#removeContainerIfEmpty(record.containerId)
        },
        destroy: async (id) => this.destroy(id, options.signal),
      },
      options,
    )
  }
}

function probeNow(backend: Backend): Probe {
  try {
    return backend.probe()
  } catch (error) {
    if (!isLoamError(error, 'NO_SPACE')) throw error
    return { isSupported: false, reason: `it cannot be tried on a full disk: ${error.message}` }
  }
}

async function collect(failures: string[], act: () => Promise<unknown>): Promise<void> {
  try {
    await act()
  } catch (error) {
    failures.push(toLoamError(error, 'destroy').message)
  }
}
