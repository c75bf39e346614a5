import { closeSync } from 'node:fs'
import { isErrno, LoamError } from '../errors/index.ts'
import { setUpLoop } from './loop.ts'
import { MountContext } from './mount-context.ts'
import { createPrivate, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY } from './detached-mount.ts'

/** No setuid program runs from it and no device opens; a mount over it, or a clone of it, has its own attributes. */
const SHARED = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV

/** An EROFS image to mount. Paths are absolute. */
export interface ErofsMount {
  readonly image: string
  /** Files with its data, in the order of its device table. */
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
  createPrivate(mount.target)
}

function mountFiles(image: string, devices: readonly string[], target: string): void {
  using context = MountContext.open('erofs')
  if (context === undefined)
    throw new LoamError('UNSUPPORTED_SYSTEM', 'mount: this kernel has no fsopen (Linux 5.2)')
  context.setPath('source', image)
  context.setFlag('ro')
  for (const device of devices) context.setPath('device', device)
  context.attach(target, SHARED)
}

function mountByLoop({ image, devices, target }: ErofsMount): void {
  // The kernel removes a loop device when its last user closes it; by then the mount is a user.
  const fds: number[] = []
  try {
    const [first = '', ...others] = [image, ...devices].map((path) =>
      setUpLoop(path, { isReadOnly: true, fds }),
    )
    mountFiles(first, others, target)
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}
