// Whether a root filesystem is mounted as its row says: by the kernel's answer, and not by a record.
import { existsSync, opendirSync, statSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { isOptionPath, type MountEntry, OVERLAY_SOURCE, visibleMount } from '../linux/index.ts'
import type { MadeRootfs, Mounts } from './backend.ts'
import { writablePaths } from './writable.ts'

/** A path that was too long for a mount option was given as a descriptor. */
const BY_DESCRIPTOR = /^\/proc\/self\/fd\/\d+$/
/** A kernel that mounts only block devices shows the device. */
const BY_LOOP = /^\/dev\/loop\d+$/

/** Returns whether a path shows the overlay with a root filesystem's own writable folder. */
export function showsOverlay(rootfs: MadeRootfs, mounts?: Mounts): boolean {
  const { rootfsPath, isReadOnly } = rootfs
  const mount = readableMount(rootfsPath, mounts)
  if (mount?.type !== 'overlay' || mount.source !== OVERLAY_SOURCE) return false
  const upper = mount.superOption('upperdir')
  const { upper: own } = writablePaths(rootfs)
  // A folder with a limit may be unmounted below an overlay that still shows it.
  const isThere = rootfs.sizeBytes === undefined || existsSync(own)
  return suitsMode(mount, isReadOnly) && upper !== undefined && isPath(upper, own) && isThere
}

/** Returns whether a path shows an EROFS image. */
export function showsErofs(path: string, image: string, mounts?: Mounts): boolean {
  const mount = readableMount(path, mounts)
  return mount?.type === 'erofs' && (isPath(mount.source, image) || BY_LOOP.test(mount.source))
}

/** Returns whether a path shows a folder that is mounted there, read-only. */
export function showsFolder(path: string, folder: string, mounts?: Mounts): boolean {
  const mount = readableMount(path, mounts)
  return mount !== undefined && suitsMode(mount, true) && isSameFile(path, folder)
}

/** Returns whether two paths lead to the same file. */
export function isSameFile(path: string, other: string): boolean {
  const [one, two] = [path, other].map((each) => statSync(each, { bigint: true, throwIfNoEntry: false }))
  return one !== undefined && two !== undefined && one.dev === two.dev && one.ino === two.ino
}

function suitsMode({ options }: MountEntry, isReadOnly: boolean): boolean {
  return !isReadOnly || options.includes('ro')
}

function isPath(shown: string, path: string): boolean {
  return isOptionPath(shown, path) || BY_DESCRIPTOR.test(shown)
}

/** Returns the mount at a path, undefined if it cannot be read. */
function readableMount(path: string, mounts: Mounts | undefined): MountEntry | undefined {
  const mount = visibleMount(path, mounts)
  return mount !== undefined && isReadable(path) ? mount : undefined
}

/** Returns whether a folder exists and can be listed. */
export function isReadable(path: string): boolean {
  try {
    const folder = opendirSync(path)
    try {
      folder.readSync()
    } finally {
      folder.closeSync()
    }
    return true
  } catch (error) {
    if (isErrno(error, 'EMFILE', 'ENFILE', 'ENOMEM', 'EACCES')) throw error
    return false
  }
}
