/*
 * The marks of overlayfs in its upper folder, and their form in a layer (Documentation/filesystems/overlayfs.rst, OCI
 * image-spec layer.md):
 *   device 0:0, or an empty file with trusted.overlay.whiteout   .wh.NAME
 *   trusted.overlay.opaque=y on a directory                      .wh..wh..opq in it
 *   trusted.overlay.redirect, .metacopy                          nothing says that data are elsewhere
 *   trusted.overlay.nlink                                        nothing: other names, of layers below, show this file (index=on)
 *   trusted.overlay.overlay.NAME                                 trusted.overlay.NAME, set inside of the mount
 *   other trusted.overlay.*                                      nothing: the kernel's own notes
 * In a user namespace all of them begin with user.overlay.
 */
import { type FileStat, overlayXattr } from '../linux/index.ts'
import type { TarXattr } from '../tar/index.ts'

/** What layers cannot represent, and why. */
const BEYOND_LAYERS: Readonly<Record<string, string>> = {
  redirect: 'says that its data is elsewhere',
  metacopy: 'says that its data is elsewhere',
  nlink: 'says that names of layers below show it, too',
}

/** Returns whether an entry of an upper folder marks a removed name. All of them may be one inode. */
export function isUpperWhiteout(stat: FileStat, readXattrs: () => readonly TarXattr[]): boolean {
  if (stat.isCharacterDevice) return stat.device.major === 0 && stat.device.minor === 0
  return stat.isFile && stat.sizeBytes === 0 && valueOf(readXattrs(), overlayXattr('whiteout')) !== undefined
}

/** Returns whether a directory of an upper folder hides those of lower layers. */
export function isUpperOpaque(xattrs: readonly TarXattr[]): boolean {
  return valueOf(xattrs, overlayXattr('opaque')) === 'y'
}

/** Returns the mark of a file that layers cannot represent, and what it says; undefined if the file has none. */
export function findForeignMark(xattrs: readonly TarXattr[]): string | undefined {
  for (const [mark, says] of Object.entries(BEYOND_LAYERS)) {
    const name = overlayXattr(mark)
    if (valueOf(xattrs, name) !== undefined) return `${name} ${says}`
  }
  return undefined
}

/** Returns the xattrs that the file shows in the mount. */
export function shownXattrs(xattrs: readonly TarXattr[]): TarXattr[] {
  const prefix = overlayXattr('')
  const escaped = overlayXattr('overlay.')
  return xattrs.flatMap((xattr) => {
    const name = xattr.name.toString('latin1')
    if (name.startsWith(escaped))
      return [{ ...xattr, name: Buffer.from(`${prefix}${name.slice(escaped.length)}`, 'latin1') }]
    return name.startsWith(prefix) ? [] : [xattr]
  })
}

function valueOf(xattrs: readonly TarXattr[], name: string): string | undefined {
  return xattrs.find((xattr) => xattr.name.toString('latin1') === name)?.value.toString('latin1')
}
