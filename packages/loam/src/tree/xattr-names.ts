/**
 * Tells whether an xattr of a layer is given to the file. Not what overlayfs itself would obey (`redirect` alone makes any directory of
 * the image show another's files), and not the marks of Loam's own in a layer's index.
 */
export function isCarriedXattr(name: Buffer): boolean {
  return !/^(?:(?:trusted|user)\.overlay|trusted\.loam)\./.test(name.toString('latin1'))
}
