import { closeSync, constants, openSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { libc, O_CLOEXEC } from './libc.ts'

// linux/loop.h
const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
const LOOP_CONFIG_BYTES = 304
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

/** struct loop_config: fd, block size, struct loop_info64 (its flags at 52), reserved. */
function loopConfig(fd: number, isReadOnly: boolean): Buffer {
  const config = Buffer.alloc(LOOP_CONFIG_BYTES)
  config.writeUInt32LE(fd, 0)
  config.writeUInt32LE(SECTOR_BYTES, 4)
  config.writeUInt32LE((isReadOnly ? LO_FLAGS_READ_ONLY : 0) | LO_FLAGS_AUTOCLEAR, 8 + 52)
  return config
}
