import { type Entry, type FileTree, NONE, ROOT } from './file-tree.ts'

/**
 * Chooses what a stack of independent layers would show wrongly: directories whose attributes are a lower layer's,
 * files hard-linked over layers under all their names, and the directories that these lie in. Laid on top of the
 * stack, these entries make it equal to the merged tree. Returns a mark for each entry, undefined when there is
 * nothing to mend. Linear in entries.
 */
export function selectPatch(merged: FileTree): Uint8Array | undefined {
  const selection = new Uint8Array(merged.entryCount)
  let isEmpty = true
  for (let entry = 0; entry < merged.entryCount; entry += 1) {
    const inode = merged.entryInode(entry)
    if (inode === NONE || !merged.isBorrowed(inode)) continue
    isEmpty = false
    selectWithParents(merged, entry, selection)
  }
  return isEmpty ? undefined : selection
}

function selectWithParents(merged: FileTree, entry: Entry, selection: Uint8Array): void {
  let current = entry
  while (selection[current] !== 1) {
    selection[current] = 1
    const directory = merged.entryParent(current)
    if (directory === ROOT) return
    current = merged.entryOfDirectory(directory)
  }
}
