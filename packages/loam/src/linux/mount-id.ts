import { AT_EMPTY_PATH, libc } from './libc.ts'

// linux/stat.h
const STATX_MNT_ID = 0x1000
const STATX_MNT_ID_UNIQUE = 0x4000
/** struct statx: stx_mask at 0, stx_mnt_id at 144. */
const STATX_BYTES = 256

/**
 * Which mount one is, where a path says only where it is at the moment: its id in the table of mounts, which the kernel gives again to another
 * one later, and since Linux 6.8 a blank and an id that it never gives again. It means nothing in another boot.
 */
export type MountId = string

/** Returns the mount that what is open belongs to. */
export function mountIdOf(fd: number): MountId {
  // Older kernels leave out what they do not know.
  const ids = [askId(fd, STATX_MNT_ID), askId(fd, STATX_MNT_ID_UNIQUE)]
  return ids.filter((id) => id !== undefined).join(' ')
}

function askId(fd: number, mask: number): bigint | undefined {
  const out = Buffer.alloc(STATX_BYTES)
  libc().statx(fd, '', AT_EMPTY_PATH, mask, out)
  return (out.readUInt32LE(0) & mask) === 0 ? undefined : out.readBigUInt64LE(144)
}

/** Tells whether two are one; an id of the table alone is compared with such ids. */
export function isSameMount(one: MountId, other: MountId): boolean {
  const [id, unique] = one.split(' ')
  const [otherId, otherUnique] = other.split(' ')
  if (unique !== undefined && otherUnique !== undefined) return unique === otherUnique
  return id === otherId
}

/** Returns the id that the table of mounts has. */
export function tableIdOf(mount: MountId): number {
  return Number(mount.split(' ')[0])
}
