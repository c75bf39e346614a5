// Recovers containers after a crash, a reboot, or an unmount of their mounts by someone else.
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type Backend, type LayerStack, writablePaths } from '../backends/index.ts'
import type { StorePaths } from '../content/index.ts'
import { type Failure, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import {
  FileLock,
  findMountsBelow,
  findOverlayUser,
  type MountEntry,
  readMountTable,
  removeTree,
  unmountEach,
  unmountTop,
  visibleMount,
} from '../linux/index.ts'
import { ancestorsOf, type ContainerId, type MetadataStore, type RootfsRecord } from '../metadata/index.ts'
import { containerFolders, strayEntries } from './container-folders.ts'
import { removeLockOfGone } from './container-locks.ts'
import { rootfsIdMapping } from './rootfs-id-mapping.ts'
import { adoptVolume, isVolume, isVolumeShown, restoreVolume, type VolumeContext } from './volume.ts'

/** The result of a recovery; ids and paths. */
export interface RecoveryReport {
  /** Root filesystems that were in order. */
  readonly kept: readonly string[]
  /** Remounted after a reboot or an unmount by someone else. */
  readonly restored: readonly string[]
  /** Unmounted, because they may have shown wrong data while nothing served their partial layers; those that could be are among `restored`. */
  readonly poisoned: readonly string[]
  /** Removed: unfinished root filesystems, and those of unknown containers. */
  readonly undone: readonly string[]
  /** Folders and mounts without a row. */
  readonly swept: readonly string[]
  /** Unreadable entries: files were moved into `quarantine/`, containers stay until they are destroyed. */
  readonly quarantined: readonly Failure[]
  /** Failures, with the reason; the next recovery tries them again. */
  readonly failed: readonly Failure[]
}

/** Returns the layers of a root filesystem that has to be remounted; its row keeps them. */
export type RestoreStack = (rootfs: RootfsRecord) => Promise<LayerStack>

interface MutableReport {
  readonly kept: string[]
  readonly restored: string[]
  readonly poisoned: string[]
  readonly undone: string[]
  readonly swept: string[]
  readonly quarantined: { what: string; reason: string }[]
  readonly failed: { what: string; reason: string }[]
}

/** The services that a recovery uses. */
export interface RecoveryParts {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly backends: readonly Backend[]
  readonly bootId: string
  readonly lockOf: (id: ContainerId) => string
  /** @throws BACKEND_UNKNOWN */
  readonly backendOf: (record: RootfsRecord) => Backend
  readonly isStanding: (record: RootfsRecord) => boolean
  readonly volumeContext: (record: RootfsRecord) => VolumeContext
  /** Removes a root filesystem, and its container with the last one. */
  readonly remove: (record: RootfsRecord) => Promise<void>
  readonly destroy: (id: ContainerId) => Promise<boolean>
}

export interface RecoveryOptions {
  readonly known?: readonly ContainerId[] | undefined
  readonly restore: RestoreStack
  readonly signal?: AbortSignal | undefined
}

/** Implements `Provisioner.recover`. */
export async function recoverContainers(
  parts: RecoveryParts,
  options: RecoveryOptions,
): Promise<RecoveryReport> {
  return new Recovery(parts).run(options)
}

class Recovery {
  readonly #parts: RecoveryParts
  readonly #report: MutableReport = {
    kept: [],
    restored: [],
    poisoned: [],
    undone: [],
    swept: [],
    quarantined: [],
    failed: [],
  }

  constructor(parts: RecoveryParts) {
    this.#parts = parts
  }

  async run({ known, restore, signal }: RecoveryOptions): Promise<RecoveryReport> {
    this.#quarantine()
    await this.#destroyUnknown(known, signal)
    for (const record of this.#parts.metadata.containers.rootfses()) {
      try {
        await this.#recoverRootfs(record, restore)
      } catch (error) {
        throwIfAborted(signal, 'recover')
        this.#report.failed.push({
          what: record.rootfsPath,
          reason: toLoamError(error, 'recover').message,
        })
      }
    }
    await this.#sweepFolders()
    this.#sweepShared()
    return this.#report
  }

  /** Moves entries that are not folders of containers out of the way, and reports damaged rows. */
  #quarantine(): void {
    const { paths, metadata } = this.#parts
    for (const entry of strayEntries(paths.containers)) {
      const what = join(paths.containers, entry)
      try {
        mkdirSync(paths.quarantine, { recursive: true, mode: 0o700 })
        renameSync(what, join(paths.quarantine, `${basename(entry)}.${Date.now()}`))
        this.#report.quarantined.push({ what, reason: 'it is not a container directory' })
      } catch (error) {
        this.#report.failed.push({ what, reason: toLoamError(error, 'quarantine').message })
      }
    }
    for (const { containerId, reason } of metadata.containers.damaged())
      this.#report.quarantined.push({ what: containerId, reason })
  }

  async #destroyUnknown(
    known: readonly ContainerId[] | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (known === undefined) return
    const kept = new Set(known.flatMap(ancestorsOf))
    const unknown = this.#parts.metadata.containers.ids().filter((id) => !kept.has(id))
    for (const id of unknown) {
      try {
        if (await this.#parts.destroy(id)) this.#report.undone.push(id)
      } catch (error) {
        throwIfAborted(signal, 'recover')
        this.#report.failed.push({ what: id, reason: toLoamError(error, 'destroy').message })
      }
    }
  }

  async #recoverRootfs(record: RootfsRecord, restore: RestoreStack): Promise<void> {
    const { containers } = this.#parts.metadata
    using lock = FileLock.tryAcquire(this.#parts.lockOf(record.containerId))
    // The process that holds it is alive and will finish or undo it.
    if (lock === undefined) return
    const current = containers.rootfses(record.containerId).find(({ uuid }) => uuid === record.uuid)
    if (current === undefined) return
    if (current.state !== 'ready') {
      await this.#parts.remove(current)
      this.#report.undone.push(current.rootfsPath)
    } else if (current.bootId === this.#parts.bootId && this.#parts.isStanding(current)) {
      await adoptVolume(current, this.#parts.volumeContext(current))
      this.#report.kept.push(current.rootfsPath)
    } else {
      await this.#restore(current, restore)
      this.#report.restored.push(current.rootfsPath)
    }
  }

  async #restore(record: RootfsRecord, restore: RestoreStack): Promise<void> {
    const backend = this.#parts.backendOf(record)
    const { rootfsPath } = record
    // A foreign mount hides Loam's mount, or is in its place.
    while (!backend.isStanding(record) && visibleMount(rootfsPath) !== undefined) unmountTop(rootfsPath)
    if (!backend.isStanding(record)) {
      if (record.bootId === this.#parts.bootId) requireUnshared(record)
      const stack = await restore(record)
      await backend.restore({ ...record, stack, idMapping: rootfsIdMapping(record) })
    }
    const volumes = this.#parts.volumeContext(record)
    if (isVolume(record) && !isVolumeShown(record, volumes)) await restoreVolume(record, volumes)
    await this.#parts.metadata.containers.setReady(record.uuid, this.#parts.bootId)
  }

  /** Removes container folders without a row, and unmounts what is in them. */
  async #sweepFolders(): Promise<void> {
    const { paths, metadata } = this.#parts
    for (const { id, path } of containerFolders(paths.containers, '')) {
      if (metadata.containers.find(id) !== undefined || !existsSync(path)) continue
      using lock = FileLock.tryAcquire(this.#parts.lockOf(id))
      if (lock === undefined || metadata.containers.find(id) !== undefined) continue
      try {
        await removeTree(path)
        removeLockOfGone(lock, id, metadata)
        this.#report.swept.push(path)
      } catch (error) {
        this.#report.failed.push({ what: path, reason: toLoamError(error, 'remove').message })
      }
    }
    this.#sweepMounts()
  }

  #sweepMounts(): void {
    const { paths, metadata } = this.#parts
    const findUnknown = (table: readonly MountEntry[]) => {
      // Read after the table: a row is written before its mount.
      const known = metadata.containers
        .rootfses()
        .flatMap(({ rootfsPath, scratchPath }) => [rootfsPath, scratchPath])
      const isKnown = (target: string) =>
        known.some((path) => target === path || target.startsWith(`${path}/`))
      return findMountsBelow(paths.containers, table).filter(({ target }) => !isKnown(target))
    }
    try {
      const unknown = findUnknown(readMountTable()).map(({ target }) => target)
      if (unmountEach(findUnknown)) this.#report.swept.push(...unknown)
    } catch (error) {
      this.#report.failed.push({ what: paths.containers, reason: toLoamError(error, 'unmount').message })
    }
  }

  #sweepShared(): void {
    for (const backend of this.#parts.backends) {
      try {
        const swept = backend.shared?.sweep() ?? []
        this.#report.swept.push(...swept)
      } catch (error) {
        this.#report.failed.push({
          what: `mounts of ${backend.name}`,
          reason: toLoamError(error, 'sweep').message,
        })
      }
    }
  }
}

/** Two overlays with one writable folder break each other. @throws ROOTFS_UNMOUNTED when another mount namespace has one */
function requireUnshared(record: RootfsRecord): void {
  const { rootfsPath } = record
  const pid = findOverlayUser(writablePaths(record).upper)
  if (pid === undefined) return
  throw new LoamError(
    'ROOTFS_UNMOUNTED',
    `mount ${rootfsPath}: it is mounted in the mount namespace of process ${pid}, where nothing here can see it`,
    {
      hint: `Work there (nsenter --mount --target ${pid}), or run \`loam recover\` when that process has ended.`,
    },
  )
}
