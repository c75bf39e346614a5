import { type FileTree, NONE } from './file-tree.ts'

/**
 * Finds the directories that a layer makes: those that it lists, and those that something of it lies in. The others stand
 * only in the paths of whiteouts and opaque marks, which act on a directory that is there and are no content of their own.
 * Returns a mark for each inode. Linear in entries.
 */
export function findOwnDirectories(layer: FileTree): Uint8Array {
  const own = new Uint8Array(layer.inodeCount)
  // From the last entry to the first: what lies in a directory comes after it.
  for (let entry = layer.entryCount - 1; entry >= 0; entry -= 1) {
    const inode = layer.entryInode(entry)
    if (inode === NONE) continue
    if (layer.isDirectory(inode)) {
      if (!layer.isInherited(inode)) own[inode] = 1
      if (own[inode] !== 1) continue
    }
    const parent = layer.entryParent(entry)
    own[parent] = 1
  }
  return own
}
