import { closeSync, constants, openSync, readSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, libc, O_CLOEXEC, O_PATH } from './libc.ts'
import { findMountsBelow } from './mount-table.ts'

// linux/mount.h
const MS_RDONLY = 1
const MS_PRIVATE = 1 << 18
const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8
const FSOPEN_CLOEXEC = 1
const FSCONFIG_SET_STRING = 1
const FSCONFIG_CMD_CREATE = 6
const FSMOUNT_CLOEXEC = 1
const MOUNT_ATTR_RDONLY = 1
const MOVE_MOUNT_F_EMPTY_PATH = 4
const OPEN_TREE_CLONE = 1
/** fsconfig takes strings of at most 255 bytes, mount(2) a page of options. */
const MAX_FSCONFIG_BYTES = 255
const MAX_MOUNT_DATA_BYTES = 4095
/** OVL_MAX_STACK in fs/overlayfs. */
export const MAX_OVERLAY_LOWERS = 500

/** An overlay to mount. Paths are absolute; any byte but NUL may be in them. */
export interface OverlayMount {
  /** Read-only layers, the topmost first. No path twice: the kernel answers ELOOP. */
  readonly lowers: readonly string[]
  readonly upper: string
  readonly work: string
  readonly target: string
  readonly isReadOnly: boolean
}

/**
 * Mounts an overlay at an empty directory. Uses the new mount API, which takes any number of lowers up to the
 * kernel's 500; on kernels without `lowerdir+` (before 6.8) mount(2), with descriptors for names when a page is
 * too short. Nothing is left mounted on failure. @throws the system's error, with the kernel's own words where it gives some
 */
export function mountOverlay(overlay: OverlayMount): void {
  const fds: number[] = []
  try {
    if (!mountOverlayByFsopen(overlay, fds)) mountOverlayByOptions(overlay, fds)
    makePrivate(overlay.target)
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}

/** Returns false when this kernel lacks what is needed. */
function mountOverlayByFsopen(overlay: OverlayMount, fds: number[]): boolean {
  const context = openContext('overlay', fds)
  if (context === undefined) return false
  const set = (key: string, value: string) => {
    describeFailure(context, `overlay ${key}=${value}`, () =>
      libc().fsconfig(context, FSCONFIG_SET_STRING, key, value, 0),
    )
  }
  set('source', 'loam')
  for (const [index, lower] of overlay.lowers.entries()) {
    try {
      // The value of lowerdir+ is one path as it is; nothing in it is escaped.
      set('lowerdir+', shorten(lower, lower, fds))
    } catch (error) {
      if (index === 0 && isErrno(error, 'EINVAL') && !hasKernelMessage(error)) return false
      throw error
    }
  }
  // These two are unescaped by the kernel, so a backslash is written twice.
  set('upperdir', shorten(escapeBackslash(overlay.upper), overlay.upper, fds))
  set('workdir', shorten(escapeBackslash(overlay.work), overlay.work, fds))
  describeFailure(context, 'mount overlay', () =>
    libc().fsconfig(context, FSCONFIG_CMD_CREATE, null, null, 0),
  )
  attach(context, overlay.target, overlay.isReadOnly ? MOUNT_ATTR_RDONLY : 0, fds)
  return true
}

function escapeBackslash(path: string): string {
  return path.replaceAll('\\', '\\\\')
}

/** A path too long for fsconfig is handed over as a descriptor's name. */
function shorten(written: string, path: string, fds: number[]): string {
  return Buffer.byteLength(written) <= MAX_FSCONFIG_BYTES ? written : descriptorPath(path, fds)
}

function descriptorPath(path: string, fds: number[]): string {
  const fd = openSync(path, O_PATH | constants.O_DIRECTORY)
  fds.push(fd)
  return `/proc/self/fd/${fd}`
}

function mountOverlayByOptions(overlay: OverlayMount, fds: number[]): void {
  const escape = (path: string) => path.replaceAll(/[\\,:]/g, '\\$&')
  const options = (name: (path: string) => string) =>
    `lowerdir=${overlay.lowers.map(name).join(':')},upperdir=${name(overlay.upper)},workdir=${name(overlay.work)}`
  const plain = options(escape)
  const data =
    Buffer.byteLength(plain) <= MAX_MOUNT_DATA_BYTES ? plain : options((path) => descriptorPath(path, fds))
  const flags = overlay.isReadOnly ? MS_RDONLY : 0
  libc().mount('loam', overlay.target, 'overlay', flags, data)
}

function openContext(type: string, fds: number[]): number | undefined {
  try {
    const fd = libc().fsopen(type, FSOPEN_CLOEXEC)
    fds.push(fd)
    return fd
  } catch (error) {
    if (isErrno(error, 'ENOSYS')) return undefined
    throw error
  }
}

function attach(context: number, target: string, attributes: number, fds: number[]): void {
  const mount = libc().fsmount(context, FSMOUNT_CLOEXEC, attributes)
  fds.push(mount)
  libc().moveMount(mount, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
}

const KERNEL_MESSAGE = ' (kernel: '

/** Adds what the kernel wrote into the mount context to an error: "overlay: filesystem on … not supported as upperdir". */
function describeFailure(context: number, attempted: string, act: () => void): void {
  try {
    act()
  } catch (error) {
    if (error instanceof Error) {
      const words = readKernelMessages(context)
      error.message = `${attempted}: ${error.message}${words === '' ? '' : `${KERNEL_MESSAGE}${words})`}`
    }
    throw error
  }
}

function hasKernelMessage(error: Error): boolean {
  return error.message.includes(KERNEL_MESSAGE) && !error.message.includes('Unknown parameter')
}

function readKernelMessages(context: number): string {
  const words: string[] = []
  const buffer = Buffer.alloc(4096)
  try {
    for (;;) {
      const length = readSync(context, buffer)
      words.push(
        buffer
          .toString('utf8', 0, length)
          .replace(/^[ewi] /, '')
          .trim(),
      )
    }
  } catch {
    // ENODATA ends the messages.
  }
  return words.join('; ')
}

/**
 * Mounts a directory read-only at another one. The mount is made read-only before it can be seen, and may hold
 * neither devices nor setuid programs when asked.
 */
export function mountBindReadOnly(source: string, target: string): void {
  const tree = libc().openTree(AT_FDCWD, source, OPEN_TREE_CLONE | O_CLOEXEC)
  try {
    setMountAttributes(tree, '', AT_EMPTY_PATH, { set: MOUNT_ATTR_RDONLY })
    libc().moveMount(tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
    makePrivate(target)
  } finally {
    closeSync(tree)
  }
}

/** Keeps what a container mounts below from spreading to the host, and the other way round. */
function makePrivate(target: string): void {
  setMountAttributes(AT_FDCWD, target, AT_SYMLINK_NOFOLLOW, { propagation: MS_PRIVATE })
}

function setMountAttributes(
  dirFd: number,
  path: string,
  flags: number,
  attributes: { set?: number; propagation?: number },
): void {
  // struct mount_attr: attr_set, attr_clr, propagation, userns_fd, 8 bytes each
  const buffer = Buffer.alloc(32)
  buffer.writeBigUInt64LE(BigInt(attributes.set ?? 0), 0)
  buffer.writeBigUInt64LE(BigInt(attributes.propagation ?? 0), 16)
  libc().mountSetattr(dirFd, path, flags, buffer, buffer.length)
}

/**
 * Unmounts whatever is mounted at a path and below it, the last made first. A mount that is in use is detached:
 * it goes when its last user does. Returns whether anything was mounted.
 */
export function unmountAll(path: string): boolean {
  const mounts = findMountsBelow(path)
  for (const { target } of mounts) unmount(target)
  return mounts.length > 0
}

function unmount(target: string): void {
  try {
    libc().umount2(target, UMOUNT_NOFOLLOW)
  } catch (error) {
    // EINVAL: it went with another one, or another process was faster.
    if (isErrno(error, 'EINVAL', 'ENOENT')) return
    if (!isErrno(error, 'EBUSY')) throw error
    libc().umount2(target, UMOUNT_NOFOLLOW | MNT_DETACH)
  }
}
