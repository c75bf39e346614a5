/*
 * Volumes: root filesystems that are also mounted at a target. A process in a container may rename directories above the target, or put symlinks
 * there, at any moment. So the kernel resolves a target beneath its root, without symlinks; the volume is mounted onto the resulting
 * descriptor; and the row records the mount, by which it is found again wherever it was moved.
 */
import { closeSync, constants } from 'node:fs'
import { posix } from 'node:path'
import { isErrno, LoamError } from '../errors/index.ts'
import {
  DetachedMount,
  findMountId,
  findMountOf,
  isSameMount,
  type MountEntry,
  type MountId,
  mountIdOf,
  openBeneath,
  openWithoutLinks,
  O_PATH,
  readMountsById,
  readMountTable,
  tableIdOf,
  unmountById,
  unmountEach,
} from '../linux/index.ts'
import type { RootfsRecord } from '../metadata/index.ts'

/** A row of a volume. */
export type VolumeRecord = RootfsRecord & { readonly volumeRoot: string; readonly volumeTarget: string }

/** Returns whether a root filesystem is mounted as a volume. */
export function isVolume(record: RootfsRecord): record is VolumeRecord {
  return record.volumeTarget !== undefined && record.volumeRoot !== undefined
}

/** The services that mounting a volume needs. */
export interface VolumeContext {
  readonly bootId: string
  /** All root filesystems. */
  readonly rootfses: () => readonly RootfsRecord[]
  readonly isStanding: (record: RootfsRecord) => boolean
  /** Records the mount before it is attached. */
  readonly record: (mount: MountId) => Promise<void>
}

/**
 * Mounts a volume at its target: in no other root filesystem, and nowhere on this machine but in the requested directory. Nothing is mounted
 * on failure. @throws ROOTFS_UNMOUNTED when the target does not exist, was replaced, or is not in the root filesystem
 */
export async function showVolume(record: VolumeRecord, context: VolumeContext): Promise<void> {
  using target = openTarget(record)
  if (record.volumeRoot !== MACHINE) requireOwnRoot(record, target, context)
  // Users of this machine can reach it if no root filesystem is around it.
  const isTrusted = record.volumeRoot !== MACHINE
  using mount = cloneOf(record, isTrusted)
  await context.record(mount.id)
  attach(record, mount, target)
  if (mount.target === record.volumeTarget) return
  // It was moved away in between.
  mount.detach()
  throw notThere(record, 'its path now leads elsewhere')
}

function cloneOf(record: VolumeRecord, isTrusted: boolean): DetachedMount {
  const { rootfsPath, volumeSubPath: path, isReadOnly } = record
  const mode = { isReadOnly, isTrusted }
  return path === undefined
    ? DetachedMount.of(rootfsPath, mode)
    : DetachedMount.within({ root: rootfsPath, path }, mode)
}

function attach(record: VolumeRecord, mount: DetachedMount, target: Target): void {
  try {
    mount.attach(target.fd)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw notThere(record, 'it was removed meanwhile', error)
    throw error
  }
}

/** Remounts a volume that is not at its target. Its remaining mount is removed only if the target exists. @throws as `showVolume` and `hideVolume` */
export async function restoreVolume(record: VolumeRecord, context: VolumeContext): Promise<void> {
  openTarget(record)[Symbol.dispose]()
  hideVolume(record, context)
  await showVolume(record, context)
}

/** Returns whether a volume is mounted at its target, possibly below other mounts there; true for a root filesystem that is not a volume. */
export function isVolumeShown(
  record: RootfsRecord,
  { bootId, rootfses }: Pick<VolumeContext, 'bootId' | 'rootfses'>,
): boolean {
  if (!isVolume(record)) return true
  try {
    using target = openTarget(record)
    const own = mountsOf(record, { bootId, rootfses })
    return own.some((mount) => isSameMount(mount, target.mount)) || isBelow(own, record, target)
  } catch (error) {
    if (error instanceof LoamError) return false
    throw error
  }
}

/** Unmounts a volume, wherever it was moved to, and no other mount there. @throws SYSTEM when other mounts hide it */
export function hideVolume(
  record: RootfsRecord,
  { bootId, rootfses }: Pick<VolumeContext, 'bootId' | 'rootfses'>,
): void {
  if (!isVolume(record)) return
  const { volumeMount } = record
  if (volumeMount === undefined) unmountEach((table) => findUnrecorded(record, table))
  else if (record.bootId !== bootId) return
  else if (isLost(record)) unmountEach((table) => findCopies(record, table, rootfses()))
  else unmountById(volumeMount)
}

/** Records the mount at the target of a volume that is shown if it is a copy of the recorded one, whose mount namespace has ended. */
export async function adoptVolume(
  record: RootfsRecord,
  { bootId, rootfses, record: write }: VolumeContext,
): Promise<void> {
  if (!isVolume(record) || !isLost(record)) return
  using target = openTarget(record)
  // Another mount may be over it.
  const isOwn = mountsOf(record, { bootId, rootfses }).some((mount) => isSameMount(mount, target.mount))
  if (isOwn) await write(target.mount)
}

/** Returns whether one of some mounts is below the visible one at the target of a volume: each is mounted at the root of the next. */
function isBelow(own: readonly MountId[], { volumeTarget }: VolumeRecord, visible: Target): boolean {
  if (own.length === 0) return false
  const table = readMountsById()
  const ids = own.map(findMountId)
  let entry = table.get(tableIdOf(visible.mount))
  while (entry?.target === volumeTarget && !ids.includes(entry.id)) entry = table.get(entry.parentId)
  return entry?.target === volumeTarget
}

const MACHINE = '/'
const OPEN_PLACE = O_PATH | constants.O_DIRECTORY

/** A directory that was found, and the mounts that it and its root belong to. */
interface Target extends Disposable {
  readonly fd: number
  readonly mount: MountId
  readonly rootMount: MountId
}

function openTarget(record: VolumeRecord): Target {
  const { volumeRoot: root, volumeTarget: target } = record
  const path = root === MACHINE ? target.slice(1) : target.slice(root.length + 1)
  if (path === '') throw notThere(record, 'it is the root itself')
  let rootFd: number | undefined
  try {
    rootFd = openWithoutLinks(root, OPEN_PLACE)
    const fd = openBeneath(rootFd, path, OPEN_PLACE)
    return {
      fd,
      mount: mountIdOf(fd),
      rootMount: mountIdOf(rootFd),
      [Symbol.dispose]: () => {
        closeSync(fd)
      },
    }
  } catch (error) {
    if (isErrno(error, 'ELOOP', 'EXDEV')) throw notThere(record, 'its path now leads elsewhere', error)
    if (isErrno(error, 'ENOTDIR')) throw notThere(record, 'it is not a directory', error)
    if (isErrno(error, 'ENOENT')) throw notThere(record, 'it is not there', error)
    throw error
  } finally {
    if (rootFd !== undefined) closeSync(rootFd)
  }
}

/**
 * Refuses mounts of others in a root filesystem: they may be shared with the host, where a volume mounted in them would be visible.
 * @throws ROOTFS_UNMOUNTED
 */
function requireOwnRoot(
  record: VolumeRecord,
  target: Target,
  { bootId, rootfses, isStanding }: VolumeContext,
): void {
  const records = rootfses()
  const root = records.find(({ rootfsPath }) => rootfsPath === record.volumeRoot)
  if (root?.state !== 'ready' || !isStanding(root))
    throw notThere(record, 'the root filesystem that contains it is not mounted')
  const volumes = records
    .filter(({ volumeRoot }) => volumeRoot === record.volumeRoot)
    .flatMap((volume) => (isVolume(volume) ? mountsOf(volume, { bootId, rootfses }) : []))
  if (![target.rootMount, ...volumes].some((own) => isSameMount(own, target.mount)))
    throw notThere(record, 'it is in a file system that was mounted there later')
}

function notThere({ containerId, volumeTarget }: VolumeRecord, why: string, cause?: unknown): LoamError {
  return new LoamError('ROOTFS_UNMOUNTED', `mount a volume at ${volumeTarget}: ${why}`, {
    cause,
    hint: `Create the directory and run \`loam recover\`, or \`loam destroy ${containerId}\`.`,
  })
}

/** Returns the mounts that are a volume: one, if any. */
function mountsOf(
  record: VolumeRecord,
  { bootId, rootfses }: Pick<VolumeContext, 'bootId' | 'rootfses'>,
): MountId[] {
  if (record.volumeMount === undefined)
    return findUnrecorded(record, readMountTable()).map(({ id }) => String(id))
  if (record.bootId !== bootId) return []
  if (isLost(record)) return findCopies(record, readMountTable(), rootfses()).map(({ id }) => String(id))
  return [record.volumeMount]
}

/** Returns whether the recorded mount of a volume of this machine is gone: with the mount namespace of the process that made it, a pod for example. */
function isLost({ volumeRoot, volumeMount }: VolumeRecord): boolean {
  return volumeRoot === MACHINE && volumeMount !== undefined && findMountId(volumeMount) === undefined
}

/** Finds the mounts at the target of a lost one that show its file system: where mounts propagate, its copies in other namespaces stay. */
function findCopies(
  { uuid, rootfsPath, volumeTarget }: VolumeRecord,
  table: readonly MountEntry[],
  rootfses: readonly RootfsRecord[],
): MountEntry[] {
  const device = findMountOf(rootfsPath, table)?.device
  // Those of other volumes at the same target.
  const taken = rootfses.flatMap((other) => {
    const isOther = other.uuid !== uuid && other.volumeTarget === volumeTarget
    return isOther && other.volumeMount !== undefined ? [findMountId(other.volumeMount)] : []
  })
  return table.filter(
    (mount) => mount.device === device && mount.target === volumeTarget && !taken.includes(mount.id),
  )
}

/** Finds the mounts of a volume of an older Loam, whose row does not record it: they show its directory of its file system. */
function findUnrecorded(
  { rootfsPath, volumeTarget }: VolumeRecord,
  table: readonly MountEntry[],
): MountEntry[] {
  const own = findMountOf(rootfsPath, table)
  if (own === undefined) return []
  const path = posix.join(own.shown, posix.relative(own.target, rootfsPath))
  const copies = table.filter(
    (mount) => mount.device === own.device && mount.shown === path && mount.target !== rootfsPath,
  )
  // A shared mount is visible at many targets; the folder of a copy has its own name.
  const isShared = own.type !== 'overlay' && posix.basename(path) !== posix.basename(rootfsPath)
  return isShared ? copies.filter(({ target }) => target === volumeTarget) : copies
}
