import { closeSync, constants, openSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { libc, O_CLOEXEC } from './libc.ts'

// linux/loop.h
const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
const LOOP_GET_STATUS64 = 0x4c05
const LOOP_CONFIG_BYTES = 304
const LOOP_INFO_BYTES = 232
/** Where the kernel lists block devices. */
const BLOCK_DEVICES = '/sys/block'
const LO_FLAGS_READ_ONLY = 1
const LO_FLAGS_AUTOCLEAR = 4
const SECTOR_BYTES = 512
const LOOP_TRIES = 50

/**
 * Sets up a loop device for a file and returns its path. The descriptor that keeps it is added to `fds`: the device is removed when its last
 * user closes it. @throws system errors, ENOENT or EPERM if there are no loop devices
 */
export function setUpLoop(
  path: string,
  { isReadOnly, fds }: { readonly isReadOnly: boolean; readonly fds: number[] },
): string {
  const access = (isReadOnly ? constants.O_RDONLY : constants.O_RDWR) | O_CLOEXEC
  const control = openSync('/dev/loop-control', constants.O_RDWR | O_CLOEXEC)
  const file = openSync(path, access)
  try {
    // Another process may take the free device before we do.
    for (let tries = 1; ; tries += 1) {
      const device = `/dev/loop${libc().ioctl(control, LOOP_CTL_GET_FREE, null)}`
      const fd = openSync(device, access)
      try {
        libc().ioctl(fd, LOOP_CONFIGURE, loopConfig(file, isReadOnly))
        fds.push(fd)
        return device
      } catch (error) {
        closeSync(fd)
        if (!isErrno(error, 'EBUSY') || tries === LOOP_TRIES) throw error
      }
    }
  } finally {
    closeSync(file)
    closeSync(control)
  }
}

/**
 * Finds the loop device that a file is set up as, and returns its path. The descriptor that keeps it is added to `fds`. A file with two devices
 * would be mounted twice, and each mount would destroy what the other writes.
 */
export function findLoop(path: string, fds: number[]): string | undefined {
  const file = statSync(path, { bigint: true })
  for (const name of readdirSync(BLOCK_DEVICES)) {
    if (!name.startsWith('loop') || readBackingName(name) !== nameOf(path)) continue
    const fd = tryOpen(`/dev/${name}`)
    if (fd === undefined) continue
    if (isLoopOf(fd, file)) {
      fds.push(fd)
      return `/dev/${name}`
    }
    closeSync(fd)
  }
  return undefined
}

/** Distinguishes the files of a store, wherever that is mounted: to ask each device costs much when all files have the same own name. */
function nameOf(path: string): string {
  return path.split('/').slice(-3).join('/')
}

/** The name of the file behind a loop device; undefined if it has none. The kernel marks one that was removed. */
function readBackingName(device: string): string | undefined {
  try {
    const path = readFileSync(join(BLOCK_DEVICES, device, 'loop', 'backing_file'), 'utf8')
    return nameOf(path.replace(/\n$/, '').replace(/ \(deleted\)$/, ''))
  } catch {
    return undefined
  }
}

function tryOpen(device: string): number | undefined {
  try {
    // udev examines a device again when a writer closes it.
    return openSync(device, constants.O_RDONLY | O_CLOEXEC)
  } catch {
    return undefined
  }
}

/** struct loop_info64: device and inode of the file. */
function isLoopOf(fd: number, { dev, ino }: { readonly dev: bigint; readonly ino: bigint }): boolean {
  const info = Buffer.alloc(LOOP_INFO_BYTES)
  try {
    libc().ioctl(fd, LOOP_GET_STATUS64, info)
  } catch (error) {
    // It is free by now.
    if (isErrno(error, 'ENXIO')) return false
    throw error
  }
  return info.readBigUInt64LE(0) === dev && info.readBigUInt64LE(8) === ino
}

/** struct loop_config: fd, block size, struct loop_info64 (its flags at 52), reserved. */
function loopConfig(fd: number, isReadOnly: boolean): Buffer {
  const config = Buffer.alloc(LOOP_CONFIG_BYTES)
  config.writeUInt32LE(fd, 0)
  config.writeUInt32LE(SECTOR_BYTES, 4)
  config.writeUInt32LE((isReadOnly ? LO_FLAGS_READ_ONLY : 0) | LO_FLAGS_AUTOCLEAR, 8 + 52)
  return config
}
