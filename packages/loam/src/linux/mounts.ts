import { closeSync, existsSync, statSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, libc, O_CLOEXEC } from './libc.ts'
import { descriptorPath, hasKernelReason, MountContext } from './mount-context.ts'
import { findMountsBelow, isMountPoint } from './mount-table.ts'

// linux/mount.h
const MS_RDONLY = 1
const MS_PRIVATE = 1 << 18
const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8
export const MOUNT_ATTR_RDONLY = 1
const MOVE_MOUNT_F_EMPTY_PATH = 4
const OPEN_TREE_CLONE = 1
const AT_RECURSIVE = 0x8000
/** mount(2) takes a page of options. */
const MAX_MOUNT_DATA_BYTES = 4095
/** OVL_MAX_STACK in fs/overlayfs. */
export const MAX_OVERLAY_LOWERS = 500

/** What the table of mounts calls the overlays of Loam. */
export const OVERLAY_SOURCE = 'loam'

/**
 * What a kernel may do by default, and no layer can say: directories and files whose content is in another place below, and one index
 * of hard links, by which a change of one name is seen under names that the upper folder does not have.
 */
const OVERLAY_DEFAULTS_OFF = ['redirect_dir', 'metacopy', 'index'] as const

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
  if (!mountOverlayByContext(overlay)) mountOverlayByOptions(overlay)
  makePrivate(overlay.target)
}

/** Returns false when this kernel lacks what is needed. */
function mountOverlayByContext(overlay: OverlayMount): boolean {
  using context = MountContext.open('overlay')
  if (context === undefined) return false
  context.setString('source', OVERLAY_SOURCE)
  for (const [index, lower] of overlay.lowers.entries()) {
    try {
      // The value of lowerdir+ is one path as it is; nothing in it is escaped.
      context.setPath('lowerdir+', lower)
    } catch (error) {
      if (index === 0 && isErrno(error, 'EINVAL') && !hasKernelReason(error)) return false
      throw error
    }
  }
  // These two are unescaped by the kernel, so a backslash is written twice.
  context.setPath('upperdir', overlay.upper, escapeBackslash(overlay.upper))
  context.setPath('workdir', overlay.work, escapeBackslash(overlay.work))
  for (const name of OVERLAY_DEFAULTS_OFF) context.setString(name, 'off')
  context.attach(overlay.target, overlay.isReadOnly ? MOUNT_ATTR_RDONLY : 0)
  return true
}

function escapeBackslash(path: string): string {
  return path.replaceAll('\\', '\\\\')
}

function mountOverlayByOptions(overlay: OverlayMount): void {
  const escape = (path: string) => path.replaceAll(/[\\,:]/g, '\\$&')
  const options = (name: (path: string) => string) =>
    [
      `lowerdir=${overlay.lowers.map(name).join(':')},upperdir=${name(overlay.upper)},workdir=${name(overlay.work)}`,
      // Older kernels do not know all of them, and refuse what they do not know.
      ...OVERLAY_DEFAULTS_OFF.filter((key) => existsSync(`/sys/module/overlay/parameters/${key}`)).map(
        (key) => `${key}=off`,
      ),
    ].join(',')
  const fds: number[] = []
  try {
    const plain = options(escape)
    const isShort = Buffer.byteLength(plain) <= MAX_MOUNT_DATA_BYTES
    const data = isShort ? plain : options((path) => descriptorPath(path, fds))
    libc().mount(OVERLAY_SOURCE, overlay.target, 'overlay', overlay.isReadOnly ? MS_RDONLY : 0, data)
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}

/** Mounts a directory, and what is mounted in it, at another one. A read-only mount is so before it can be seen. */
export function mountBind(source: string, target: string, isReadOnly: boolean): void {
  const tree = libc().openTree(AT_FDCWD, source, OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE)
  try {
    if (isReadOnly) setMountAttributes(tree, '', AT_EMPTY_PATH | AT_RECURSIVE, { set: MOUNT_ATTR_RDONLY })
    libc().moveMount(tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
    makePrivate(target)
  } finally {
    closeSync(tree)
  }
}

/** Keeps what a container mounts below from spreading to the host, and the other way round. */
export function makePrivate(target: string): void {
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

/** Unmounts what is seen at a path, with all that is mounted in it; what it covers is seen then. */
export function unmountTop(path: string): void {
  libc().umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH)
}

/** Unmounts what shows a folder at another path, and nothing else that may be mounted there. Returns whether it was. */
export function unmountCopyOf(source: string, target: string): boolean {
  const [own, shown] = [source, target].map((path) => statSync(path, { bigint: true, throwIfNoEntry: false }))
  const isCopy = own !== undefined && shown !== undefined && own.dev === shown.dev && own.ino === shown.ino
  if (!isCopy || source === target || !isMountPoint(target)) return false
  unmount(target)
  return true
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
