/*
 * Unmounts mounts below directories that containers write to: each one by a separate descriptor, which is compared with the mount's id.
 * The table of mounts names paths, and a container may redirect each of them before umount(2) resolves it.
 */
import { closeSync } from 'node:fs'
import { isErrno, LoamError } from '../errors/index.ts'
import { libc, O_PATH } from './libc.ts'
import { findMountId, type MountId, mountIdOf, tableIdOf } from './mount-id.ts'
import { findMountsBelow, mayBeMountedBelow, type MountEntry, readMountTable } from './mount-table.ts'
import { openWithoutLinks } from './open-beneath.ts'

const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8
/** A container that renames directories all the time makes some tries fail. */
const MAX_TRIES = 200

/**
 * Unmounts all mounts at a path and below it. A mount in use is removed with its last user. Returns whether anything was mounted. No
 * container can change the path itself. @throws SYSTEM for a mount that other mounts hide
 */
export function unmountAll(path: string): boolean {
  if (!mayBeMountedBelow(path)) return false
  // Those at the path first, the newest first: unmounting them also unmounts the mounts in them, wherever those are by now.
  return unmountEach((table) => {
    const mounts = findMountsBelow(path, table)
    const own = mounts.filter(({ target }) => target === path)
    return own.length > 0 ? own : mounts
  })
}

/**
 * Unmounts the mounts that `choose` selects from the table, and repeats this until none is left. Returns whether there was any.
 * @throws SYSTEM for a mount that other mounts hide
 */
export function unmountEach(choose: (table: readonly MountEntry[]) => readonly MountEntry[]): boolean {
  let wasMounted = false
  for (let tried = 0; tried < MAX_TRIES; tried += 1) {
    const mounts = choose(readMountTable())
    if (mounts.length === 0) return wasMounted
    wasMounted = true
    for (const mount of mounts) unmountEntry(mount)
  }
  throw hidden(choose(readMountTable())[0]?.target ?? 'what is mounted')
}

/** Unmounts one mount, wherever it is by now, with the mounts in it; one that is gone is not an error. @throws SYSTEM when other mounts hide it */
export function unmountById(mount: MountId): void {
  unmountEach((table) => {
    const id = findMountId(mount)
    return table.filter((entry) => entry.id === id)
  })
}

function unmountEntry(entry: MountEntry): void {
  const fd = openMount(entry)
  if (fd === undefined) return
  try {
    libc().umount2(`/proc/self/fd/${fd}`, MNT_DETACH)
  } catch (error) {
    // It was unmounted with another one, or by another process; the table will show that.
    if (!isErrno(error, 'EINVAL')) throw error
  } finally {
    closeSync(fd)
  }
}

/** Opens the root of a mount with O_PATH; undefined if it is not visible where the table says. */
function openMount(entry: MountEntry): number | undefined {
  let fd: number
  try {
    fd = openWithoutLinks(entry.targetBytes, O_PATH)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined
    throw error
  }
  if (tableIdOf(mountIdOf(fd)) === entry.id) return fd
  closeSync(fd)
  return undefined
}

function hidden(target: string): LoamError {
  return new LoamError('SYSTEM', `unmount ${target}: something else is mounted over it`, {
    details: { errno: 'EBUSY', path: target },
    hint: `Unmount that first: findmnt --target ${target}`,
  })
}

/** Unmounts the visible mount at a path, with the mounts in it; the mount that it covered is visible then. No container can change the path. */
export function unmountTop(path: string): void {
  libc().umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH)
}
