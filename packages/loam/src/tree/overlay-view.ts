import { FileTree, type Inode, NONE, ROOT } from './file-tree.ts'
import { LayerFolder } from './layer-folder.ts'

/**
 * The view that overlayfs gives of the folders of layers, computed as in the kernel (fs/overlayfs/namei.c, readdir.c): each
 * name shows the topmost folder's file, and directories are merged down to an opaque one, a whiteout, or another file.
 */
export class OverlayView {
  readonly tree = new FileTree()
  /** Directories that several folders have. In all others a whiteout is listed and cannot be found. */
  readonly #merged = new Set<Inode>([ROOT])

  /** Adds the folder of a layer on top; without a number, the files keep those they have. Linear in its entries and in what it hides. */
  add(layer: FileTree, layerIndex?: number): void {
    const { tree } = this
    const folder = new LayerFolder(layer)
    const copies = new Uint32Array(layer.inodeCount).fill(NONE)
    copies[ROOT] = ROOT
    for (let entry = 0; entry < layer.entryCount; entry += 1) {
      const place = folder.contentOf(entry)
      if (place === 'nothing') continue
      const parent = copies[layer.entryParent(entry)] ?? NONE
      const name = layer.entryName(entry)
      if (place === 'whiteout') {
        tree.removeEntry(parent, name)
        tree.markWhiteout(parent, name)
        continue
      }
      const inode = layer.entryInode(entry)
      const below = tree.find(parent, name)
      if (layer.isDirectory(inode) && !folder.isOpaque(inode) && below !== NONE && tree.isDirectory(below)) {
        tree.setAttributes(below, layer.attributes(inode))
        tree.setXattrs(below, layer.xattrs(inode))
        this.#merged.add(below)
        copies[inode] = below
        continue
      }
      const known = copies[inode] ?? NONE
      const copy =
        known === NONE
          ? tree.copyInode(layer, inode, layerIndex ?? layer.fileData(inode).layer, parent)
          : known
      copies[inode] = copy
      tree.setEntry(parent, name, copy)
    }
  }

  /** Returns whether a directory lists whiteouts. */
  showsWhiteouts(directory: Inode): boolean {
    if (this.#merged.has(directory)) return false
    for (const entry of this.tree.allChildren(directory))
      if (this.tree.entryInode(entry) === NONE) return true
    return false
  }
}
