/*
 * EROFS on disk, as in fs/erofs/erofs_fs.h of Linux; all numbers little-endian. Loam writes and reads: plain,
 * inline and chunk-based inodes, shared and inline xattrs, any number of devices. No compression.
 *
 *   1024            superblock, 128 bytes, and behind it the device table, 128 bytes a device
 *   nid * 32        inodes (32 or 64 bytes), each followed by its xattrs and by its chunk indexes or inline tail; the root's first
 *   xattrBlock      xattrs that inodes share, by their distance from here in words
 *   block * size    directories and file data in whole blocks
 */
import { LoamError } from '../errors/index.ts'
import { crc32c } from './crc32c.ts'

export const SUPERBLOCK_OFFSET = 1024
export const SUPERBLOCK_BYTES = 128
export const DEVICE_SLOT_BYTES = 128
export const DEVICE_TAG_BYTES = 64
const MAGIC = 0xe0f5e1e2
const COMPAT_CHECKSUM = 1
const COMPAT_MTIME = 2
const INCOMPAT_ZERO_PADDING = 1
const INCOMPAT_CHUNKED_FILE = 4
const INCOMPAT_DEVICE_TABLE = 8
const INCOMPAT_KNOWN = INCOMPAT_ZERO_PADDING | INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE

/** Inodes are aligned to multiples of this; a nid is the multiple. */
export const NID_BYTES = 32
export const COMPACT_BYTES = 32
export const EXTENDED_BYTES = 64

/** Location of an inode's data (i_format, bits 1 to 3). */
export const FLAT_PLAIN = 0
export const FLAT_INLINE = 2
export const CHUNK_BASED = 4

/** chunk_format: bits 0 to 4 are the chunk's size over the block's, as a power of two. */
export const CHUNK_BITS_MASK = 31
/** Blocks of images over a tar: data of files begins on those of the tar. */
export const TAR_BLOCK_BITS = 9
export const CHUNK_INDEXES = 0x20
export const CHUNK_INDEX_BYTES = 8
/** Block address of a hole. */
export const NULL_BLOCK = 0xffffffff

export const DIRENT_BYTES = 12
export const XATTR_HEADER_BYTES = 12
export const XATTR_ENTRY_BYTES = 4
/** A value's length has 16 bits. */
export const MAX_XATTR_VALUE_BYTES = 0xffff
export const MAX_SHARED_XATTRS = 255
/** The xattrs behind an inode have 16 bits for their length in words; one word counts the header. */
export const MAX_XATTR_BODY_BYTES = XATTR_HEADER_BYTES + 0xfffe * 4
const MAX_ROOT_NID = 0xffff
const MAX_DEVICES = 0xffff

/** Prefixes of xattr names by their number. The ACLs are whole names. */
export const XATTR_PREFIXES: readonly (readonly [index: number, prefix: string])[] = [
  [1, 'user.'],
  [2, 'system.posix_acl_access'],
  [3, 'system.posix_acl_default'],
  [4, 'trusted.'],
  [6, 'security.'],
]

/** File types of directory entries, by the type bits of a mode. */
export const DIRENT_TYPES: ReadonlyMap<number, number> = new Map([
  [0o100000, 1],
  [0o040000, 2],
  [0o020000, 3],
  [0o060000, 4],
  [0o010000, 5],
  [0o140000, 6],
  [0o120000, 7],
])

/** A file that holds data for an image: a layer's tar. */
export interface ErofsDevice {
  /** 64 bytes at most: the digits of the layer's digest. */
  readonly tag: string
  readonly sizeBytes: number
}

/** A device in the table of an image. */
export interface DeviceSlot {
  readonly tag: string
  readonly blocks: number
  /** Its first block in the disk that the image and its devices are together; 0 if they are none, because it would be too large. */
  readonly mappedBlock: number
}

export interface Superblock {
  readonly blockBits: number
  readonly rootNid: number
  readonly inodes: number
  /** The time that all compact inodes have. */
  readonly epochSeconds: number
  readonly epochNanoseconds: number
  readonly blocks: number
  readonly metaBlock: number
  readonly xattrBlock: number
  readonly uuid: Buffer
  readonly devices: readonly DeviceSlot[]
}

/** Returns the start of an image up to the end of its device table, in whole blocks. */
export function encodeSuperblock(superblock: Superblock): Buffer {
  const { blockBits, devices, rootNid } = superblock
  if (rootNid > MAX_ROOT_NID || devices.length > MAX_DEVICES)
    throw invalid(`${devices.length} devices are more than its head has room for`)
  const blockBytes = 2 ** blockBits
  const usedBytes = SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES + devices.length * DEVICE_SLOT_BYTES
  const head = Buffer.alloc(Math.ceil(usedBytes / blockBytes) * blockBytes)
  const at = head.subarray(SUPERBLOCK_OFFSET)
  at.writeUInt32LE(MAGIC, 0)
  // fsck.erofs (1.8) crashes on the checksum of blocks this small, and mkfs.erofs leaves it out for them, too.
  const hasChecksum = blockBytes > SUPERBLOCK_OFFSET
  at.writeUInt32LE((hasChecksum ? COMPAT_CHECKSUM : 0) | COMPAT_MTIME, 8)
  at.writeUInt8(blockBits, 12)
  at.writeUInt16LE(rootNid, 14)
  at.writeBigUInt64LE(BigInt(superblock.inodes), 16)
  at.writeBigInt64LE(BigInt(superblock.epochSeconds), 24)
  at.writeUInt32LE(superblock.epochNanoseconds, 32)
  at.writeUInt32LE(superblock.blocks, 36)
  at.writeUInt32LE(superblock.metaBlock, 40)
  at.writeUInt32LE(superblock.xattrBlock, 44)
  superblock.uuid.copy(at, 48, 0, 16)
  at.writeUInt32LE(INCOMPAT_CHUNKED_FILE | (devices.length > 0 ? INCOMPAT_DEVICE_TABLE : 0), 80)
  at.writeUInt16LE(devices.length, 86)
  at.writeUInt16LE((SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES) / DEVICE_SLOT_BYTES, 88)
  for (const [index, device] of devices.entries()) {
    const slot = at.subarray(SUPERBLOCK_BYTES + index * DEVICE_SLOT_BYTES)
    slot.write(device.tag, 0, DEVICE_TAG_BYTES, 'latin1')
    slot.writeUInt32LE(device.blocks, 64)
    slot.writeUInt32LE(device.mappedBlock, 68)
  }
  if (hasChecksum) at.writeUInt32LE(checksum(at, blockBytes), 4)
  return head
}

/** The checksum covers the superblock's block; its own field counts as zero. */
function checksum(fromSuperblock: Buffer, blockBytes: number): number {
  const bytes = Buffer.from(fromSuperblock.subarray(0, checkedBytes(blockBytes)))
  bytes.writeUInt32LE(0, 4)
  return crc32c(0xffffffff, bytes)
}

function checkedBytes(blockBytes: number): number {
  return blockBytes > SUPERBLOCK_OFFSET ? blockBytes - SUPERBLOCK_OFFSET : blockBytes
}

/** Reads superblock and device table. @throws EROFS_INVALID */
export function decodeSuperblock(readAt: (position: number, length: number) => Buffer): Superblock {
  const at = readAt(SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES)
  if (at.readUInt32LE(0) !== MAGIC) throw invalid('it has no EROFS superblock')
  const blockBits = at.readUInt8(12)
  if (blockBits < 9 || blockBits > 16) throw invalid(`blocks of 2^${blockBits} bytes`)
  const incompat = at.readUInt32LE(80)
  if ((incompat & ~INCOMPAT_KNOWN) !== 0) {
    throw invalid(`it uses features that Loam does not read (0x${incompat.toString(16)})`)
  }
  const blockBytes = 2 ** blockBits
  if ((at.readUInt32LE(8) & COMPAT_CHECKSUM) !== 0) {
    const checked = readAt(SUPERBLOCK_OFFSET, Math.max(SUPERBLOCK_BYTES, checkedBytes(blockBytes)))
    if (checksum(checked, blockBytes) !== at.readUInt32LE(4))
      throw invalid('the checksum of its superblock is wrong')
  }
  const deviceCount = (incompat & INCOMPAT_DEVICE_TABLE) === 0 ? 0 : at.readUInt16LE(86)
  const table = readAt(at.readUInt16LE(88) * DEVICE_SLOT_BYTES, deviceCount * DEVICE_SLOT_BYTES)
  return {
    blockBits,
    rootNid: at.readUInt16LE(14),
    inodes: Number(at.readBigUInt64LE(16)),
    epochSeconds: Number(at.readBigInt64LE(24)),
    epochNanoseconds: at.readUInt32LE(32),
    blocks: at.readUInt32LE(36),
    metaBlock: at.readUInt32LE(40),
    xattrBlock: at.readUInt32LE(44),
    uuid: Buffer.from(at.subarray(48, 64)),
    devices: Array.from({ length: deviceCount }, (_none, index) => decodeSlot(table, index)),
  }
}

function decodeSlot(table: Buffer, index: number): DeviceSlot {
  const slot = table.subarray(index * DEVICE_SLOT_BYTES, (index + 1) * DEVICE_SLOT_BYTES)
  const end = slot.subarray(0, DEVICE_TAG_BYTES).indexOf(0)
  return {
    tag: slot.toString('latin1', 0, end < 0 ? DEVICE_TAG_BYTES : end),
    blocks: slot.readUInt32LE(64),
    mappedBlock: slot.readUInt32LE(68),
  }
}

/** Returns the error for an image that neither Loam nor mkfs.erofs can have written. */
export function invalid(why: string): LoamError {
  return new LoamError('EROFS_INVALID', `read EROFS image: ${why}`)
}

/** Returns the number rounded up to a multiple of `unit`. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit
}
