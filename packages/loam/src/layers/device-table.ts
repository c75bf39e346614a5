import { closeSync, fstatSync, readSync } from 'node:fs'
import { ErofsImage } from '../erofs/index.ts'
import { openRegular } from '../linux/index.ts'

/** A device of an image, in bytes. */
export interface ImageDevice {
  readonly tag: string
  /** Whole blocks of its file. */
  readonly sizeBytes: number
  /** Where it begins in the disk that the image and its devices are; 0 if they are none, because it would be too large. */
  readonly position: number
}

/**
 * Returns the size of an image and its devices, in their order. Reads the superblock and the table of devices alone: some kilobytes, which the main
 * thread may read. @throws EROFS_INVALID and system errors
 */
export function readDeviceTable(path: string): {
  readonly imageBytes: number
  readonly devices: readonly ImageDevice[]
} {
  const fd = openRegular(path, 'EROFS_INVALID')
  try {
    const readAt = (position: number, length: number) => {
      const bytes = Buffer.alloc(length)
      return bytes.subarray(0, readSync(fd, bytes, 0, length, position))
    }
    const { blockBits, blocks, devices } = new ErofsImage(readAt, fstatSync(fd).size).superblock
    const blockBytes = 2 ** blockBits
    return {
      imageBytes: blocks * blockBytes,
      devices: devices.map((device) => ({
        tag: device.tag,
        sizeBytes: device.blocks * blockBytes,
        position: device.mappedBlock * blockBytes,
      })),
    }
  } finally {
    closeSync(fd)
  }
}

/** Returns the tags of an image's devices, in their order. @throws as `readDeviceTable` */
export function readDeviceTags(path: string): string[] {
  return readDeviceTable(path).devices.map(({ tag }) => tag)
}
