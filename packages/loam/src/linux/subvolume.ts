/*
 * Subvolumes of btrfs with a limit of their size (linux/btrfs.h). A limit is that of the subvolume's quota group, which exists where quotas are enabled.
 */
import { readFileSync, statfsSync, statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { libc } from './libc.ts'
import { withDirectory } from './with-directory.ts'

const BTRFS_SUPER_MAGIC = 0x9123683e
/** Inode of the root directory of every subvolume. */
const FIRST_INODE = 256
const FS_INFO = 0x8400941f
const FS_INFO_BYTES = 1024
const SUBVOL_CREATE = 0x5000940e
const SNAP_DESTROY = 0x5000940f
const INO_LOOKUP = 0xd0009412
const QGROUP_CREATE = 0x4010942a
const QGROUP_LIMIT = 0x8030942b
const NAME_BYTES = 4096
const LIMIT_REFERENCED = 1n

/** Returns whether a directory is on btrfs with quotas. */
export function hasSubvolumeQuota(path: string): boolean {
  if (statfsSync(path).type !== BTRFS_SUPER_MAGIC) return false
  const info = Buffer.alloc(FS_INFO_BYTES)
  withDirectory(path, (fd) => {
    libc().ioctl(fd, FS_INFO, info)
  })
  const hex = info.toString('hex', 16, 32)
  const id = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  try {
    return readFileSync(`/sys/fs/btrfs/${id}/qgroups/enabled`, 'utf8').startsWith('1')
  } catch {
    // There is no such directory without quotas.
    return false
  }
}

/** Returns whether a path is the root of a subvolume. */
export function isSubvolume(path: string): boolean {
  return statSync(path).ino === FIRST_INODE && statfsSync(path).type === BTRFS_SUPER_MAGIC
}

/** Creates a subvolume. @throws ENOTTY if the file system is not btrfs, and other system errors */
export function createSubvolume(path: string): void {
  withDirectory(dirname(path), (fd) => {
    libc().ioctl(fd, SUBVOL_CREATE, encodeName(basename(path)))
  })
}

/** Limits the bytes of files of a subvolume. @throws ENOTCONN if quotas are not enabled, and other system errors */
export function limitSubvolume(path: string, bytes: number): void {
  // struct btrfs_ioctl_qgroup_limit_args: group (0: that of the subvolume), flags, referenced, exclusive, two reservations
  const limit = Buffer.alloc(48)
  limit.writeBigUInt64LE(LIMIT_REFERENCED, 8)
  limit.writeBigUInt64LE(BigInt(bytes), 16)
  withDirectory(path, (fd) => {
    libc().ioctl(fd, QGROUP_LIMIT, limit)
  })
}

/** Removes a subvolume with all that is in it, and its quota group. @throws system errors, for example if there is another subvolume in it */
export function removeSubvolume(path: string): void {
  const id = withDirectory(path, readSubvolumeId)
  withDirectory(dirname(path), (fd) => {
    libc().ioctl(fd, SNAP_DESTROY, encodeName(basename(path)))
    try {
      // struct btrfs_ioctl_qgroup_create_args: 0 removes it; group
      const group = Buffer.alloc(16)
      group.writeBigUInt64LE(id, 8)
      libc().ioctl(fd, QGROUP_CREATE, group)
    } catch (error) {
      // Newer kernels remove it themselves, when the files are gone.
      if (!isErrno(error, 'EBUSY', 'ENOENT', 'ENOTCONN', 'EINVAL')) throw error
    }
  })
}

function readSubvolumeId(fd: number): bigint {
  // struct btrfs_ioctl_ino_lookup_args: tree (0: that of the descriptor), inode, name
  const lookup = Buffer.alloc(NAME_BYTES)
  lookup.writeBigUInt64LE(BigInt(FIRST_INODE), 8)
  libc().ioctl(fd, INO_LOOKUP, lookup)
  return lookup.readBigUInt64LE(0)
}

/** struct btrfs_ioctl_vol_args: a descriptor, and a name that ends in NUL. */
function encodeName(name: string): Buffer {
  const args = Buffer.alloc(NAME_BYTES)
  args.write(name, 8)
  return args
}
