import { closeSync } from 'node:fs'
import { LoamError } from '../errors/index.ts'
import { createPrivate, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID } from './detached-mount.ts'
import { findLoop, setUpLoop } from './loop.ts'
import { MountContext } from './mount-context.ts'

/** A file system in a file. Paths are absolute. */
export interface ImageMount {
  readonly type: string
  readonly image: string
  readonly target: string
  /** Options of the file system without a value. */
  readonly flags: readonly string[]
}

/**
 * Mounts a file system in a file for writing, at an empty directory. Its loop device goes away with the mount, and so it does when this process is killed
 * before. Nothing is left on failure. @throws system errors if this process is not root, or there are no loop devices
 */
export function mountImage({ type, image, target, flags }: ImageMount): void {
  const fds: number[] = []
  try {
    // A mount that was detached, or that another mount namespace has, still writes to the file.
    const device = findLoop(image, fds) ?? setUpLoop(image, { isReadOnly: false, fds })
    using context = MountContext.open(type)
    if (context === undefined)
      throw new LoamError('UNSUPPORTED_SYSTEM', 'mount: this kernel has no fsopen (Linux 5.2)')
    context.setString('source', device)
    for (const flag of flags) context.setFlag(flag)
    context.attach(target, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    createPrivate(target)
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}
