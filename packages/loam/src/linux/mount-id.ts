import { isErrno } from '../errors/index.ts'
import { AT_EMPTY_PATH, libc } from './libc.ts'

// linux/stat.h
const STATX_MNT_ID = 0x1000
const STATX_MNT_ID_UNIQUE = 0x4000
/** struct statx: stx_mask at 0, stx_mnt_id at 144. */
const STATX_BYTES = 256
const STATMOUNT_MNT_BASIC = 2n
/** struct statmount: mnt_id_old at 56, and 512 bytes before the variable part. */
const STATMOUNT_BYTES = 1024

/**
 * Identifies a mount, which a path does not, because mounts can be moved: its id in the table of mounts, which the kernel later reuses for
 * another mount, and since Linux 6.8 a space and an id that it never reuses. It is valid only in the same boot.
 */
export type MountId = string

/** Returns the mount that an open file belongs to. */
export function mountIdOf(fd: number): MountId {
  // Older kernels leave out unknown fields.
  const ids = [askId(fd, STATX_MNT_ID), askId(fd, STATX_MNT_ID_UNIQUE)]
  return ids.filter((id) => id !== undefined).join(' ')
}

function askId(fd: number, mask: number): bigint | undefined {
  const out = Buffer.alloc(STATX_BYTES)
  libc().statx(fd, '', AT_EMPTY_PATH, mask, out)
  return (out.readUInt32LE(0) & mask) === 0 ? undefined : out.readBigUInt64LE(144)
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
