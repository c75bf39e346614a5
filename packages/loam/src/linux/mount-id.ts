import { isErrno } from '../errors/index.ts'
import { AT_EMPTY_PATH, libc } from './libc.ts'

// linux/stat.h
const AT_STATX_DONT_SYNC = 0x4000
const STATX_ATTR_MOUNT_ROOT = 0x2000n
const STATX_MNT_ID = 0x1000
const STATX_MNT_ID_UNIQUE = 0x4000
/** struct statx: stx_mask at 0, stx_attributes at 8, stx_mnt_id at 144. */
const STATX_BYTES = 256
const STATMOUNT_MNT_BASIC = 2n
/** struct statmount: mnt_id_old at 56, and 512 bytes before the variable part. */
const STATMOUNT_BYTES = 1024

/**
 * Identifies a mount, which a path does not, because mounts can be moved: its id in the table of mounts, which the kernel later reuses for
 * another mount, and since Linux 6.8 a space and an id that it never reuses. It is valid only in the same boot.
 */
export type MountId = string

/** Returns the mount that an open file belongs to; its file system is not asked. */
export function mountIdOf(fd: number): MountId {
  // Older kernels leave out unknown fields.
  const ids = [idIn(askMount(fd), STATX_MNT_ID), askUniqueId(fd)]
  return ids.filter((id) => id !== undefined).join(' ')
}

/** Returns whether an open file is the root of its mount; its file system is not asked. */
export function isMountRoot(fd: number): boolean {
  return (askMount(fd).readBigUInt64LE(8) & STATX_ATTR_MOUNT_ROOT) !== 0n
}

function askUniqueId(fd: number): bigint | undefined {
  try {
    return idIn(askMount(fd, STATX_MNT_ID_UNIQUE), STATX_MNT_ID_UNIQUE)
  } catch {
    // One of FUSE tells other users nothing that they ask for.
    return undefined
  }
}

/** By default no field of the file is asked for, since a server of FUSE may refuse, be gone, or never answer: the kernel adds those of the mount. */
function askMount(fd: number, mask = 0): Buffer {
  const out = Buffer.alloc(STATX_BYTES)
  libc().statx(fd, '', AT_EMPTY_PATH | AT_STATX_DONT_SYNC, mask, out)
  return out
}

function idIn(out: Buffer, field: number): bigint | undefined {
  return (out.readUInt32LE(0) & field) === 0 ? undefined : out.readBigUInt64LE(144)
}

/**
 * Returns the id by which a mount is in the table of mounts now; undefined when it is gone. Before Linux 6.8 another mount may have its id.
 */
export function findMountId(mount: MountId): number | undefined {
  const [id, unique] = mount.split(' ')
  if (unique === undefined) return Number(id)
  // struct mnt_id_req: size, a spare word, the id, the requested fields (linux/mount.h)
  const request = Buffer.alloc(24)
  request.writeUInt32LE(request.length, 0)
  request.writeBigUInt64LE(BigInt(unique), 8)
  request.writeBigUInt64LE(STATMOUNT_MNT_BASIC, 16)
  const out = Buffer.alloc(STATMOUNT_BYTES)
  try {
    libc().statmount(request, out, out.length, 0)
    return out.readUInt32LE(56)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    // A seccomp filter may forbid the call.
    if (isErrno(error, 'ENOSYS')) return Number(id)
    throw error
  }
}

/** Returns whether two are one; an id of the table alone is compared with such ids. */
export function isSameMount(one: MountId, other: MountId): boolean {
  const [id, unique] = one.split(' ')
  const [otherId, otherUnique] = other.split(' ')
  if (unique !== undefined && otherUnique !== undefined) return unique === otherUnique
  return id === otherId
}

/** Returns the id that the table of mounts had when this was asked for. */
export function tableIdOf(mount: MountId): number {
  return Number(mount.split(' ')[0])
}
