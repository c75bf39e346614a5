/*
 * Unmounts mounts below directories that containers write to: each one by a separate descriptor, which is compared with the mount's id.
 * The table of mounts names paths, and a container may redirect each of them before umount(2) resolves it.
 */
import { close, closeSync, opendirSync } from 'node:fs'
import { promisify } from 'node:util'
import { isErrno, LoamError } from '../errors/index.ts'
import { FileStat } from './file-stat.ts'
import { libc, O_PATH } from './libc.ts'
import { findMountId, isMountRoot, type MountId, mountIdOf, tableIdOf } from './mount-id.ts'
import { findMountsBelow, mayBeMountedBelow, type MountEntry, readMountTable } from './mount-table.ts'
import { openWithoutLinks } from './open-beneath.ts'

const closeLater = promisify(close)

const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8
/** A container that renames directories all the time makes some tries fail. */
const MAX_TRIES = 200

/** Selects the mounts to unmount from the table. */
type Choice = (table: readonly MountEntry[]) => readonly MountEntry[]

/**
 * Unmounts all mounts at a path and below it. A mount in use is removed with its last user. Returns whether anything was mounted. No
 * container can change the path itself. @throws SYSTEM for a mount that other mounts hide
 */
export function unmountAll(path: string): boolean {
  return finish(unmountingBelow(path))
}

/** The same for threads that serve others: the file system is taken down meanwhile. */
export async function unmountAllLater(path: string): Promise<boolean> {
  const steps = unmountingBelow(path)
  for (;;) {
    const { done, value } = steps.next()
    if (done === true) return value
    await closeLater(value)
  }
}

/**
 * Unmounts the mounts that `choose` selects from the table, and repeats this until none is left. Returns whether there was any.
 * @throws SYSTEM for a mount that other mounts hide
 */
export function unmountEach(choose: Choice): boolean {
  return finish(unmounting(choose))
}

function finish(steps: Unmounting): boolean {
  for (;;) {
    const { done, value } = steps.next()
    if (done === true) return value
    closeSync(value)
  }
}

/** Yields a descriptor of each mount that it has unmounted: the one that closes the last of a file system waits until that is taken down. */
type Unmounting = Generator<number, boolean>

/** Asks for the path itself first: the table of all mounts is long where there are many containers. */
function* unmountingBelow(path: string): Unmounting {
  let wasMounted = false
  for (let fd = unmountVisible(path); fd !== undefined; fd = unmountVisible(path)) {
    wasMounted = true
    yield fd
  }
  if (isBare(path) || !mayBeMountedBelow(path)) return wasMounted
  return (yield* unmounting(chooseBelow(path))) || wasMounted
}

/** Unmounts the mount that a path shows, and returns a descriptor of it; undefined if there is none, or if only the table can tell. */
function unmountVisible(path: string): number | undefined {
  const fd = tryOpen(path)
  if (fd === undefined) return undefined
  let isUnmounted = false
  try {
    if (isMountRoot(fd)) {
      libc().umount2(`/proc/self/fd/${fd}`, MNT_DETACH)
      isUnmounted = true
    }
  } catch (error) {
    // Another process unmounted it meanwhile.
    if (!isErrno(error, 'EINVAL')) throw error
  } finally {
    if (!isUnmounted) closeSync(fd)
  }
  return isUnmounted ? fd : undefined
}

/** Returns whether a path is an empty directory that is not a mount: then nothing is mounted below it. */
function isBare(path: string): boolean {
  const fd = tryOpen(path)
  if (fd === undefined) return false
  try {
    return !isMountRoot(fd) && FileStat.of(fd).isDirectory && isEmpty(`/proc/self/fd/${fd}`)
  } finally {
    closeSync(fd)
  }
}

function isEmpty(folder: string): boolean {
  const directory = opendirSync(folder)
  try {
    return directory.readSync() === null
  } finally {
    directory.closeSync()
  }
}

/** Those at the path first, the newest first: unmounting them also unmounts the mounts in them, wherever those are by now. */
function chooseBelow(path: string): Choice {
  return (table) => {
    const mounts = findMountsBelow(path, table)
    const own = mounts.filter(({ target }) => target === path)
    return own.length > 0 ? own : mounts
  }
}

function* unmounting(choose: Choice): Unmounting {
  let wasMounted = false
  for (let tried = 0; tried < MAX_TRIES; tried += 1) {
    const mounts = choose(readMountTable())
    if (mounts.length === 0) return wasMounted
    wasMounted = true
    for (const mount of mounts) {
      const fd = unmountEntry(mount)
      if (fd !== undefined) yield fd
    }
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

/** Returns a descriptor that the mount still has, to be closed by the caller; undefined if it is not visible where the table says. */
function unmountEntry(entry: MountEntry): number | undefined {
  const fd = openMount(entry)
  if (fd === undefined) return undefined
  try {
    libc().umount2(`/proc/self/fd/${fd}`, MNT_DETACH)
  } catch (error) {
    // It was unmounted with another one, or by another process; the table will show that.
    if (isErrno(error, 'EINVAL')) return fd
    closeSync(fd)
    throw error
  }
  return fd
}

/** Opens the root of a mount with O_PATH; undefined if it is not visible where the table says. */
function openMount(entry: MountEntry): number | undefined {
  const fd = tryOpen(entry.targetBytes)
  if (fd === undefined) return undefined
  if (tableIdOf(mountIdOf(fd)) === entry.id) return fd
  closeSync(fd)
  return undefined
}

/** Opens a path with O_PATH; undefined if it does not exist, or leads through a symlink. */
function tryOpen(path: string | Buffer): number | undefined {
  try {
    return openWithoutLinks(path, O_PATH)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined
    throw error
  }
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
