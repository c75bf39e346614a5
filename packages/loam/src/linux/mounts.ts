import { closeSync, existsSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { createPrivate, MOUNT_ATTR_RDONLY } from './detached-mount.ts'
import { libc } from './libc.ts'
import { descriptorPath, hasKernelReason, MountContext } from './mount-context.ts'
import { isNamespaceRoot } from './rootless.ts'

// linux/mount.h
const MS_RDONLY = 1
/** mount(2) takes a page of options. */
const MAX_MOUNT_DATA_BYTES = 4095
/** OVL_MAX_STACK in fs/overlayfs. */
export const MAX_OVERLAY_LOWERS = 500

/** The source of Loam's overlays in the table of mounts. */
export const OVERLAY_SOURCE = 'loam'

/**
 * Options that a kernel may turn on by default, and that layers cannot represent: directories and files whose content is elsewhere below, and
 * an index of hard links, by which a change of one name is visible under names that the upper folder does not have.
 */
const OVERLAY_DEFAULTS_OFF = ['redirect_dir', 'metacopy', 'index'] as const

/** An overlay to mount. Paths are absolute; any byte but NUL may be in them. */
export interface OverlayMount {
  /** Read-only layers, the topmost first. No path twice: the kernel answers ELOOP. */
  readonly lowers: readonly string[]
  readonly upper: string
  readonly work: string
  readonly target: string
  readonly isReadOnly: boolean
}

/**
 * Mounts an overlay at an empty directory. Uses the new mount API, which takes any number of lowers up to the
 * kernel's 500; on kernels without `lowerdir+` (before 6.8) mount(2), with descriptors for names when a page is
 * too short. Nothing is left mounted on failure. @throws the system's error, with the kernel's own words where it gives some
 */
export function mountOverlay(overlay: OverlayMount): void {
  if (!mountOverlayByContext(overlay)) mountOverlayByOptions(overlay)
  createPrivate(overlay.target)
}

/** Returns false if this kernel lacks the necessary calls. */
function mountOverlayByContext(overlay: OverlayMount): boolean {
  using context = MountContext.open('overlay')
  if (context === undefined) return false
  context.setString('source', OVERLAY_SOURCE)
  for (const [index, lower] of overlay.lowers.entries()) {
    try {
      // The value of lowerdir+ is one path, without escapes.
      context.setPath('lowerdir+', lower)
    } catch (error) {
      if (index === 0 && isUnknownOption(error)) return false
      throw error
    }
  }
  // The kernel unescapes these two, so a backslash is written twice.
  context.setPath('upperdir', overlay.upper, escapeBackslash(overlay.upper))
  context.setPath('workdir', overlay.work, escapeBackslash(overlay.work))
  // With userxattr the kernel turns off the others itself, and refuses options of theirs.
  if (isNamespaceRoot()) context.setFlag('userxattr')
  else for (const name of OVERLAY_DEFAULTS_OFF) context.setString(name, 'off')
  try {
    context.attach(overlay.target, overlay.isReadOnly ? MOUNT_ATTR_RDONLY : 0)
  } catch (error) {
    // Before 6.5 the kernel takes any option, and refuses unknown ones here.
    if (isUnknownOption(error)) return false
    throw error
  }
  return true
}

function isUnknownOption(error: unknown): boolean {
  return isErrno(error, 'EINVAL') && !hasKernelReason(error)
}

function escapeBackslash(path: string): string {
  return path.replaceAll('\\', '\\\\')
}

function defaultsOff(): string[] {
  return OVERLAY_DEFAULTS_OFF.filter((key) => existsSync(`/sys/module/overlay/parameters/${key}`)).map(
    (key) => `${key}=off`,
  )
}

function mountOverlayByOptions(overlay: OverlayMount): void {
  const escape = (path: string) => path.replaceAll(/[\\,:]/g, '\\$&')
  const options = (name: (path: string) => string) =>
    [
      `lowerdir=${overlay.lowers.map(name).join(':')},upperdir=${name(overlay.upper)},workdir=${name(overlay.work)}`,
      // Older kernels do not know all of them, and refuse unknown ones.
      ...(isNamespaceRoot() ? ['userxattr'] : defaultsOff()),
    ].join(',')
  const fds: number[] = []
  try {
    const plain = options(escape)
    const isShort = Buffer.byteLength(plain) <= MAX_MOUNT_DATA_BYTES
    const data = isShort ? plain : options((path) => descriptorPath(path, fds))
    libc().mount(OVERLAY_SOURCE, overlay.target, 'overlay', overlay.isReadOnly ? MS_RDONLY : 0, data)
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}
