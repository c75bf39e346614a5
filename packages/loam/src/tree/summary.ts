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
import type { LeftOutXattrs } from './layer-tree.ts'

/**
 * Raised whenever a tar results in a different tree, summary or artifact than before. Artifacts of an earlier generation are
 * rebuilt from the tars. 2: whiteouts are distinguished from opaque directories and none is lost; xattrs are checked. 3: merged images have a UUID. 4: images
 * say where their devices are in one disk. 5: no copied chunk of a sparse file has the block number that follows a chunk of the tar.
 */
export const TREE_GENERATION = 5

/** The properties of a layer that matter for stacking it, found once and kept with its record. Plain data. */
export interface LayerSummary {
  /** The `TREE_GENERATION` that it was built by; absent in records of the first. */
  readonly generation?: number
  /** Entries of the layer's own tree, whiteouts not among them. */
  readonly entries: number
  /** Sizes of its regular files together, in bytes; a hard-linked file counts once. */
  readonly fileBytes: number
  /** Whether the layer hides everything below it. */
  readonly hasOpaqueRoot: boolean
  /** Whether it has directories whose attributes are those of lower layers. */
  readonly hasImplicitDirectories: boolean
  /** Whether it has hard links into lower layers. */
  readonly hasLowerLinks: boolean
  /** Whether it has character devices 0:0, which overlayfs treats as whiteouts. */
  readonly hasZeroDevices: boolean
  /** Whether it has whiteouts or opaque directories. */
  readonly hasWhiteouts: boolean
  /** xattrs that its files do not get. */
  readonly leftOutXattrs?: LeftOutXattrs | undefined
  /** Attributes of the root directory, if the layer lists it. */
  readonly root: RootAttributes | undefined
}

/** The root directory's attributes; xattr names and values in base64. */
export interface RootAttributes extends InodeAttributes {
  readonly xattrs: readonly (readonly [name: string, value: string])[]
}

/** Describes the tree of one layer, with the xattrs that were left out when it was built. Linear in its entries. */
export function summarizeLayer(tree: FileTree, leftOutXattrs?: LeftOutXattrs): LayerSummary {
  let entries = 0
  let fileBytes = 0
  let hasImplicitDirectories = false
  let hasLowerLinks = false
  let hasZeroDevices = false
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
    hasImplicitDirectories ||= tree.isInherited(inode)
    hasWhiteouts ||= tree.isOpaque(inode)
    hasLowerLinks ||= type === S_LOWER_LINK
    hasZeroDevices ||= type === S_IFCHR && isZeroDevice(tree, inode)
  }
  return {
    generation: TREE_GENERATION,
    entries,
    fileBytes,
    hasOpaqueRoot: tree.isOpaque(ROOT),
    hasImplicitDirectories,
    hasLowerLinks,
    hasZeroDevices,
    hasWhiteouts,
    leftOutXattrs,
    root: tree.isInherited(ROOT) ? undefined : describeRoot(tree),
  }
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
