import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { ErofsImage } from '../erofs/index.ts'

/**
 * Returns the tags of an image's devices, in their order. Reads the superblock and the table of devices alone: some kilobytes, which the main
 * thread may read. @throws EROFS_INVALID and system errors
 */
export function readDeviceTags(path: string): string[] {
  const fd = openSync(path, 'r')
  try {
    const readAt = (position: number, length: number) => {
      const bytes = Buffer.alloc(length)
      return bytes.subarray(0, readSync(fd, bytes, 0, length, position))
    }
    return new ErofsImage(readAt, fstatSync(fd).size).superblock.devices.map(({ tag }) => tag)
  } finally {
    closeSync(fd)
  }
}
