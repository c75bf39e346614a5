import { createHash } from 'node:crypto'
import type { ImageLayout } from './layout.ts'

const UUID_BYTES = 16
/** Version and variant of RFC 9562 for a UUID that is a hash. */
const VERSION = 0x80
const VARIANT = 0x80
const RECORD_BYTES = 16
const RECORDS = 4096

/**
 * Returns the UUID of a merged image: it stands for the layers that have its data, and for the place, mode and links of each inode. Trees that differ
 * in names alone may share it; a container has one image, and its files are found by their places. overlayfs finds the file that was copied up by UUID and
 * number, and trusts no file system without a UUID: a hard link that a container makes of a file of the image would then be another file than its original.
 */
export function imageUuid(layout: ImageLayout): Buffer {
  const hash = createHash('sha256')
  hash.update(layout.devices.map(({ tag }) => tag).join(' '))
  hash.update(`\n${layout.blockBytes} ${layout.sizeBytes}\n`)
  const records = Buffer.alloc(RECORD_BYTES * RECORDS)
  let used = 0
  for (const inode of layout.inodes) {
    records.writeUIntLE(layout.nid(inode), used, 6)
    records.writeUInt32LE(layout.tree.mode(inode), used + 8)
    records.writeUInt32LE(layout.links(inode), used + 12)
    used += RECORD_BYTES
    if (used < records.length) continue
    hash.update(records)
    used = 0
  }
  const uuid = hash.update(records.subarray(0, used)).digest().subarray(0, UUID_BYTES)
  uuid.writeUInt8((uuid.readUInt8(6) & 0x0f) | VERSION, 6)
  uuid.writeUInt8((uuid.readUInt8(8) & 0x3f) | VARIANT, 8)
  return uuid
}
