import {
  type FileTree,
  type Inode,
  NONE,
  ROOT,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  SortedTree,
  UP,
} from '../tree/index.ts'
import { storedBytes } from './contents-index.ts'

const BLOCK_BYTES = 4096
/** ext4 keeps short targets, and a few xattrs, in the inode. */
const INLINE_TARGET_BYTES = 59
const INLINE_XATTR_BYTES = 64
/** A directory entry of ext4 has 8 bytes and the name; blocks of an index are some two thirds full. */
const ENTRY_BYTES = 12
const DIRECTORY_FILLING = 0.6

/** Returns the data of all files of a tree, without holes. */
export function dataBytes(tree: FileTree): number {
  let bytes = 0
  for (let inode = ROOT; inode < tree.inodeCount; inode += 1)
    if (tree.linkCount(inode) > 0) bytes += storedBytes(tree, inode)
  return bytes
}

/** Space that a tree needs in a file system with blocks of 4 KiB. */
export interface TreeSurvey {
  readonly bytes: number
  readonly inodes: number
  /** Of all xattrs of the file that has the most, names and values. */
  readonly maxXattrBytes: number
  /** A time is not in the 32 bits of seconds around 1970. */
  readonly hasWideTimes: boolean
}

/** Sums up the space of a merged tree; holes need none, and a hard-linked file counts once. Linear in its entries. */
export function surveyTree(tree: FileTree): TreeSurvey {
  const sorted = new SortedTree(tree, (entry) => tree.entryInode(entry) !== NONE)
  const met = new Set<Inode>([ROOT])
  let directoryBytes = 0
  for (const directory of sorted.directories) {
    let bytes = 0
    for (const entry of sorted.entriesOf(directory)) {
      if (entry >= UP) continue
      met.add(tree.entryInode(entry))
      bytes += ENTRY_BYTES + tree.entryNameBytes(entry)
    }
    directoryBytes += toBlocks(bytes / DIRECTORY_FILLING) + BLOCK_BYTES
  }
  let bytes = directoryBytes
  let maxXattrBytes = 0
  let hasWideTimes = false
  for (const inode of met) {
    const xattrBytes = tree
      .xattrs(inode)
      .reduce((sum, { name, value }) => sum + 20 + name.length + value.length, 0)
    hasWideTimes ||= isWide(tree.mtime(inode).seconds)
    maxXattrBytes = Math.max(maxXattrBytes, xattrBytes)
    bytes += contentBytes(tree, inode) + (xattrBytes > INLINE_XATTR_BYTES ? toBlocks(xattrBytes) : 0)
  }
  return { bytes, inodes: met.size, maxXattrBytes, hasWideTimes }
}

function contentBytes(tree: FileTree, inode: Inode): number {
  const type = tree.type(inode)
  if (type === S_IFDIR) return 0
  if (type === S_IFLNK) return tree.linkTargetBytes(inode) > INLINE_TARGET_BYTES ? BLOCK_BYTES : 0
  if (type !== S_IFREG) return 0
  const { sizeBytes, segments } = tree.fileData(inode)
  if (segments === undefined) return toBlocks(sizeBytes)
  let bytes = 0
  // A segment may begin and end within blocks.
  for (let index = 1; index < segments.length; index += 2)
    bytes += toBlocks(segments[index] ?? 0) + BLOCK_BYTES
  return bytes
}

function isWide(seconds: number): boolean {
  return seconds < -(2 ** 31) || seconds >= 2 ** 31
}

function toBlocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES
}
