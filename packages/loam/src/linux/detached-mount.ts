import { closeSync, constants, readlinkSync } from 'node:fs'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, libc, O_CLOEXEC, O_PATH } from './libc.ts'
import { type MountId, mountIdOf } from './mount-id.ts'
import { openWithoutLinks } from './open-beneath.ts'

// linux/mount.h
const MS_PRIVATE = 1 << 18
const MNT_DETACH = 2
export const MOUNT_ATTR_RDONLY = 1
export const MOUNT_ATTR_NOSUID = 2
export const MOUNT_ATTR_NODEV = 4
const MOVE_MOUNT_F_EMPTY_PATH = 4
const MOVE_MOUNT_T_EMPTY_PATH = 0x40
const OPEN_TREE_CLONE = 1
const AT_RECURSIVE = 0x8000

/** What a mount allows. */
export interface MountMode {
  readonly isReadOnly: boolean
  /** Setuid programs and devices work; false where users of this machine may come by. */
  readonly isTrusted: boolean
}

/**
 * A directory to be shown at another place, with what is mounted in it: a mount of its own that is nowhere yet, and knows already which one
 * it is. What is never attached goes when this is disposed.
 */
export class DetachedMount implements Disposable {
  readonly id: MountId
  readonly #fd: number

  private constructor(fd: number) {
    this.#fd = fd
    this.id = mountIdOf(fd)
  }

  /** Clones what is seen at a path of this machine that is no symlink. All attributes hold before it can be seen anywhere. */
  static of(source: string, { isReadOnly, isTrusted }: MountMode): DetachedMount {
    const flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW
    const fd = libc().openTree(AT_FDCWD, source, flags)
    try {
      // What is cloned may be mounted with less than is wanted here.
      const set = (isReadOnly ? MOUNT_ATTR_RDONLY : 0) | (isTrusted ? 0 : DISTRUSTED)
      setMountAttributes(fd, '', AT_EMPTY_PATH | AT_RECURSIVE, {
        set,
        clear: isTrusted ? DISTRUSTED : 0,
        propagation: MS_PRIVATE,
      })
      return new DetachedMount(fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** Mounts it at a directory that is open, wherever that is by now. What others mount in it does not spread from there, nor to it. */
  attach(directory: number): void {
    libc().moveMount(this.#fd, '', directory, '', MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    setMountAttributes(this.#fd, '', AT_EMPTY_PATH, { propagation: MS_PRIVATE })
  }

  /** Where it is mounted now, as the kernel says. */
  get target(): string {
    return readlinkSync(`/proc/self/fd/${this.#fd}`)
  }

  /** Takes it away again. */
  detach(): void {
    libc().umount2(`/proc/self/fd/${this.#fd}`, MNT_DETACH)
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

const DISTRUSTED = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV

/** Mounts a directory, and what is mounted in it, at another one of this machine, for containers; both are no symlinks, nor below one. */
export function mountBind(source: string, target: string, isReadOnly: boolean): void {
  using mount = DetachedMount.of(source, { isReadOnly, isTrusted: true })
  const directory = openWithoutLinks(target, O_PATH | constants.O_DIRECTORY)
  try {
    mount.attach(directory)
  } finally {
    closeSync(directory)
  }
}

/** Keeps what a container mounts below from spreading to the host, and the other way round. */
export function createPrivate(target: string): void {
  setMountAttributes(AT_FDCWD, target, AT_SYMLINK_NOFOLLOW, { propagation: MS_PRIVATE })
}

function setMountAttributes(
  dirFd: number,
  path: string,
  flags: number,
  attributes: { set?: number; clear?: number; propagation: number },
): void {
  // struct mount_attr: attr_set, attr_clr, propagation, userns_fd, 8 bytes each
  const buffer = Buffer.alloc(32)
  buffer.writeBigUInt64LE(BigInt(attributes.set ?? 0), 0)
  buffer.writeBigUInt64LE(BigInt(attributes.clear ?? 0), 8)
  buffer.writeBigUInt64LE(BigInt(attributes.propagation), 16)
  libc().mountSetattr(dirFd, path, flags, buffer, buffer.length)
}
