import { closeSync, constants, readlinkSync } from 'node:fs'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, libc, O_CLOEXEC, O_PATH } from './libc.ts'
import { type MountId, mountIdOf } from './mount-id.ts'
import { openDirectoryInRoot } from './in-root.ts'
import { openWithoutLinks } from './open-beneath.ts'
import type { RootedPath } from './rooted-path.ts'

// linux/mount.h
const MS_PRIVATE = 1 << 18
const MNT_DETACH = 2
export const MOUNT_ATTR_RDONLY = 1
export const MOUNT_ATTR_NOSUID = 2
export const MOUNT_ATTR_NODEV = 4
const MOUNT_ATTR_IDMAP = 0x100000
const MOVE_MOUNT_F_EMPTY_PATH = 4
const MOVE_MOUNT_T_EMPTY_PATH = 0x40
const OPEN_TREE_CLONE = 1
const AT_RECURSIVE = 0x8000

/** The permissions of a mount. */
export interface MountMode {
  readonly isReadOnly: boolean
  /** Setuid programs and devices work; false where users of this machine can reach the mount. */
  readonly isTrusted: boolean
  /** Devices do not work, whether it is trusted or not. Undefined: false. */
  readonly isWithoutDevices?: boolean
}

/**
 * A clone of a directory, with the mounts in it, that is to be attached at another place. It is not attached anywhere yet, but has its ID
 * already. The kernel removes a clone that was never attached when this is disposed.
 */
export class DetachedMount implements Disposable {
  readonly id: MountId
  readonly #fd: number

  private constructor(fd: number) {
    this.#fd = fd
    this.id = mountIdOf(fd)
  }

  /** Clones the directory or file at a path of this machine, which must not be a symlink. All attributes are set before it is visible anywhere. */
  static of(source: string, mode: MountMode): DetachedMount {
    const flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW
    return DetachedMount.#with(libc().openTree(AT_FDCWD, source, flags), mode)
  }

  /** The same for a directory in a root filesystem, in which its symlinks are resolved. @throws PATH_NOT_FOUND if it is not a directory there */
  static within(source: RootedPath, mode: MountMode): DetachedMount {
    const directory = openDirectoryInRoot(source)
    try {
      const flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH
      return DetachedMount.#with(libc().openTree(directory, '', flags), mode)
    } finally {
      closeSync(directory)
    }
  }

  static #with(fd: number, { isReadOnly, isTrusted, isWithoutDevices }: MountMode): DetachedMount {
    try {
      // The mount that is cloned may have stricter attributes than requested here.
      const refused = (isTrusted ? 0 : DISTRUSTED) | (isWithoutDevices === true ? MOUNT_ATTR_NODEV : 0)
      const set = (isReadOnly ? MOUNT_ATTR_RDONLY : 0) | refused
      setMountAttributes(fd, '', AT_EMPTY_PATH | AT_RECURSIVE, {
        set,
        clear: isTrusted ? DISTRUSTED & ~refused : 0,
        propagation: MS_PRIVATE,
      })
      return new DetachedMount(fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /**
   * Clones a directory, without mounts in it, with the IDs of its files mapped as in a user namespace, to be a lower directory of overlays: read-only, without
   * setuid programs and devices. @throws EINVAL if the file system does not support it (EROFS since Linux 5.19), and other system errors
   */
  static withMappedIds(source: string, userNamespace: number): DetachedMount {
    const fd = libc().openTree(AT_FDCWD, source, OPEN_TREE_CLONE | O_CLOEXEC | AT_SYMLINK_NOFOLLOW)
    try {
      const set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | DISTRUSTED
      const attributes = { set, propagation: MS_PRIVATE, userNamespace }
      setMountAttributes(fd, '', AT_EMPTY_PATH, attributes)
      return new DetachedMount(fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** Mounts it at an open directory, wherever that is by now. Mounts do not propagate from it, nor to it. */
  attach(directory: number): void {
    libc().moveMount(this.#fd, '', directory, '', MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    setMountAttributes(this.#fd, '', AT_EMPTY_PATH, { propagation: MS_PRIVATE })
  }

  /** Path where it is mounted now, as the kernel reports it. */
  get target(): string {
    return readlinkSync(`/proc/self/fd/${this.#fd}`)
  }

  /** Unmounts it. */
  detach(): void {
    libc().umount2(`/proc/self/fd/${this.#fd}`, MNT_DETACH)
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

const DISTRUSTED = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV

/** Mounts a directory, with the mounts in it, at another one of this machine, for containers; neither path contains a symlink. */
export function mountBind(source: string, target: string, isReadOnly: boolean): void {
  using mount = DetachedMount.of(source, { isReadOnly, isTrusted: true })
  mountAt(mount, target)
}

/** Mounts a clone at a directory of this machine, whose path contains no symlink. */
export function mountAt(mount: DetachedMount, target: string): void {
  const directory = openWithoutLinks(target, O_PATH | constants.O_DIRECTORY)
  try {
    mount.attach(directory)
  } finally {
    closeSync(directory)
  }
}

/** Keeps mounts of a container below this one from propagating to the host, and the other way round. */
export function createPrivate(target: string): void {
  setMountAttributes(AT_FDCWD, target, AT_SYMLINK_NOFOLLOW, { propagation: MS_PRIVATE })
}

function setMountAttributes(
  dirFd: number,
  path: string,
  flags: number,
  attributes: { set?: number; clear?: number; propagation: number; userNamespace?: number },
): void {
  // struct mount_attr: attr_set, attr_clr, propagation, userns_fd, 8 bytes each
  const buffer = Buffer.alloc(32)
  buffer.writeBigUInt64LE(BigInt(attributes.set ?? 0), 0)
  buffer.writeBigUInt64LE(BigInt(attributes.clear ?? 0), 8)
  buffer.writeBigUInt64LE(BigInt(attributes.propagation), 16)
  buffer.writeBigUInt64LE(BigInt(attributes.userNamespace ?? 0), 24)
  libc().mountSetattr(dirFd, path, flags, buffer, buffer.length)
}
