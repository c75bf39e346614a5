import { closeSync, constants, openSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { libc, O_CLOEXEC } from './libc.ts'
import { MountContext } from './mount-context.ts'
import { makePrivate, MOUNT_ATTR_RDONLY } from './mounts.ts'

// linux/loop.h
const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
const LOOP_CONFIG_BYTES = 304
const LO_FLAGS_READ_ONLY = 1
const LO_FLAGS_AUTOCLEAR = 4
const SECTOR_BYTES = 512
const LOOP_TRIES = 50

/** An EROFS image to mount. Paths are absolute. */
export interface ErofsMount {
  readonly image: string
  /** Files that hold its data, in the order of its device table. */
  readonly devices: readonly string[]
  readonly target: string
  /**
   * `file`: the kernel reads the files themselves (Linux 6.12). `loop`: through loop devices, which go away with the
   * mount. By default the first of them that works.
   */
  readonly by?: 'file' | 'loop'
}

/** Mounts an EROFS image read-only at an empty directory. Nothing is left on failure. @throws the system's error, with the kernel's own words */
export function mountErofs(mount: ErofsMount): void {
  if (mount.by === 'loop') {
    mountByLoop(mount)
  } else {
    try {
      mountFiles(mount.image, mount.devices, mount.target)
    } catch (error) {
      // Before 6.12 only block devices can be mounted.
      if (mount.by === 'file' || !isErrno(error, 'ENOTBLK')) throw error
      mountByLoop(mount)
    }
  }
  makePrivate(mount.target)
}

function mountFiles(image: string, devices: readonly string[], target: string): void {
  using context = MountContext.open('erofs')
  if (context === undefined) throw new Error('this kernel has no fsopen (Linux 5.2)')
  context.setPath('source', image)
  context.setFlag('ro')
  for (const device of devices) context.setPath('device', device)
  context.attach(target, MOUNT_ATTR_RDONLY)
}

function mountByLoop({ image, devices, target }: ErofsMount): void {
  // A loop device is taken down when its last user closes it: the mount is one by then.
  const fds: number[] = []
  try {
    const [first = '', ...others] = [image, ...devices].map((path) => setUpLoop(path, fds))
    mountFiles(first, others, target)
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}

/** Makes a read-only loop device of a file and returns its path; the descriptor that keeps it is added to `fds`. */
function setUpLoop(path: string, fds: number[]): string {
  const control = openSync('/dev/loop-control', constants.O_RDWR | O_CLOEXEC)
  const file = openSync(path, constants.O_RDONLY | O_CLOEXEC)
  try {
    // Another process may take the free device before we do.
    for (let tries = 1; ; tries += 1) {
      const device = `/dev/loop${libc().ioctl(control, LOOP_CTL_GET_FREE, null)}`
      const fd = openSync(device, constants.O_RDONLY | O_CLOEXEC)
      try {
        libc().ioctl(fd, LOOP_CONFIGURE, loopConfig(file))
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
function loopConfig(fd: number): Buffer {
  const config = Buffer.alloc(LOOP_CONFIG_BYTES)
  config.writeUInt32LE(fd, 0)
  config.writeUInt32LE(SECTOR_BYTES, 4)
  config.writeUInt32LE(LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR, 8 + 52)
  return config
}
