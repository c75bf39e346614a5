import { type FileTree, NONE } from './file-tree.ts'

/**
 * Finds the directories that a layer creates: those that it lists, and those that contain entries of it. The others occur
 * only in the paths of whiteouts and opaque marks, which act on an existing directory and are not content.
 * Returns a mark for each inode. Linear in entries.
 */
export function findOwnDirectories(layer: FileTree): Uint8Array {
  const own = new Uint8Array(layer.inodeCount)
  // From the last entry to the first: the content of a directory comes after it.
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
