import {
  type FileTree,
  type InodeAttributes,
  NONE,
  ROOT,
  S_IFCHR,
  S_IFMT,
  S_IFREG,
  S_LOWER_LINK,
} from './file-tree.ts'
import type { Xattr } from './xattr-sets.ts'

const MAX_VALUE_BYTES = 0xffff
/** So many of any size can be kept apart from their inode. */
const MAX_FEW_XATTRS = 250
const MAX_MANY_BYTES = 200_000
const KNOWN_NAMES = /^(?:(?:user|trusted|security)\..|system\.posix_acl_(?:access|default)$)/s

/** What a layer asks of those who stack it, found once and kept with its record. Plain data. */
export interface LayerSummary {
  /** Entries of the layer's own tree, whiteouts not among them. */
  readonly entries: number
  /** Sizes of its regular files together, in bytes; a hard-linked file counts once. */
  readonly fileBytes: number
  /** The layer hides all that is below it. */
  readonly hasOpaqueRoot: boolean
  /** It has directories whose attributes are those of lower layers. */
  readonly hasImplicitDirectories: boolean
  /** It has hard links into lower layers. */
  readonly hasLowerLinks: boolean
  /** It has character devices 0:0, which overlayfs takes for whiteouts. */
  readonly hasZeroDevices: boolean
  /** It has xattrs that EROFS cannot keep: of 64 KiB, or in no namespace of Linux's. Absent in records of older versions. */
  readonly hasOddXattrs?: boolean
  /** It has whiteouts or opaque directories. */
  readonly hasWhiteouts: boolean
  /** Attributes of the root directory, when the layer lists it. */
  readonly root: RootAttributes | undefined
}

/** The root directory's attributes; xattr names and values in base64. */
export interface RootAttributes extends InodeAttributes {
  readonly xattrs: readonly (readonly [name: string, value: string])[]
}

/** Describes the tree of one layer. Linear in its entries. */
export function summarizeLayer(tree: FileTree): LayerSummary {
  let entries = 0
  let fileBytes = 0
  let hasImplicitDirectories = false
  let hasLowerLinks = false
  let hasZeroDevices = false
  let hasOddXattrs = isOddSet(tree.xattrs(ROOT))
  let hasWhiteouts = tree.isOpaque(ROOT)
  const seen = new Uint8Array(tree.inodeCount)
  for (let entry = 0; entry < tree.entryCount; entry += 1) {
    hasWhiteouts ||= tree.isWhiteout(entry)
    const inode = tree.entryInode(entry)
    if (inode === NONE) continue
    entries += 1
    if (seen[inode] === 1) continue
    seen[inode] = 1
    const type = tree.mode(inode) & S_IFMT
    if (type === S_IFREG) fileBytes += tree.fileData(inode).sizeBytes
    hasImplicitDirectories ||= tree.isBorrowed(inode)
    hasWhiteouts ||= tree.isOpaque(inode)
    hasLowerLinks ||= type === S_LOWER_LINK
    hasOddXattrs ||= isOddSet(tree.xattrs(inode))
    hasZeroDevices ||= type === S_IFCHR && isZeroDevice(tree, inode)
  }
  return {
    entries,
    fileBytes,
    hasOpaqueRoot: tree.isOpaque(ROOT),
    hasImplicitDirectories,
    hasLowerLinks,
    hasZeroDevices,
    hasOddXattrs,
    hasWhiteouts,
    root: tree.isBorrowed(ROOT) ? undefined : describeRoot(tree),
  }
}

/** EROFS has 16 bits for a value's length, numbers for the namespaces, and a bound for what stands behind one inode. */
function isOddSet(xattrs: readonly Xattr[]): boolean {
  const isOdd = ({ name, value }: Xattr) =>
    value.length > MAX_VALUE_BYTES || !KNOWN_NAMES.test(name.toString('latin1'))
  const bytes = xattrs.reduce((sum, { name, value }) => sum + name.length + value.length, 0)
  return xattrs.some(isOdd) || (xattrs.length > MAX_FEW_XATTRS && bytes > MAX_MANY_BYTES)
}

function isZeroDevice(tree: FileTree, inode: number): boolean {
  const { major, minor } = tree.device(inode)
  return major === 0 && minor === 0
}

function describeRoot(tree: FileTree): RootAttributes {
  return {
    ...tree.attributes(ROOT),
    xattrs: tree
      .xattrs(ROOT)
      .map(({ name, value }) => [name.toString('base64'), value.toString('base64')] as const),
  }
}
