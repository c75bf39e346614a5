import { FileTree, type Inode, NONE, ROOT, S_IFCHR } from './file-tree.ts'
import { LayerFolder } from './layer-folder.ts'
import type { Xattr } from './xattr-sets.ts'

const OPAQUE: Xattr = { name: Buffer.from('trusted.overlay.opaque'), value: Buffer.from('y') }
const WHITEOUT = { mode: S_IFCHR, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0 }

/**
 * Builds the tree of one layer as plain overlayfs stacks it: whiteouts are devices 0:0, opaque directories have an xattr, and
 * nothing else stands for an effect on lower layers. First `add` the layer, then `correct` it by the fixup of its stack up to
 * this layer: overlayfs then shows the merged tree without another layer on top. Linear in entries.
 */
export class StackedLayer {
  readonly tree = new FileTree()
  readonly #opaque = new Set<Inode>()
  /** Directories whose names lower layers have, too. */
  readonly #covering = new Set<Inode>()
  #whiteout: Inode = NONE

  /**
   * Adds the layer. `below` is the merged tree of the layers below it: a whiteout without a name to hide is left out,
   * because overlayfs lists it in a directory that no other layer has.
   */
  add(layer: FileTree, layerIndex: number, below: FileTree): void {
    const places = new Uint32Array(layer.inodeCount).fill(NONE)
    places[ROOT] = ROOT
    this.#merge(layer, layerIndex, {
      enter: (parent, name, inode) => {
        const place = places[parent] ?? NONE
        const found = place === NONE ? NONE : below.find(place, name)
        places[inode] = found !== NONE && below.isDirectory(found) ? found : NONE
        return found !== NONE
      },
      hide: (parent, name, own) => {
        const place = places[parent] ?? NONE
        if (place !== NONE && below.find(place, name) !== NONE) this.#hide(own, name)
      },
    })
  }

  /** Applies a fixup: its files keep the numbers of their layers, and what must not be seen is removed or hidden. */
  correct(fixup: FileTree): void {
    this.#merge(fixup, undefined, {
      enter: () => false,
      hide: (_parent, name, own) => {
        const found = this.tree.find(own, name)
        if (found !== NONE && found !== this.#whiteout && !this.#covering.has(found))
          this.tree.removeEntry(own, name)
        else this.#hide(own, name)
      },
    })
  }

  /** Gives the root the attributes that the merged tree has: overlayfs shows those of the topmost layer. */
  setRoot(merged: FileTree): void {
    this.tree.setAttributes(ROOT, merged.attributes(ROOT))
    this.tree.setXattrs(ROOT, merged.xattrs(ROOT))
  }

  #merge(
    from: FileTree,
    layerIndex: number | undefined,
    walk: {
      /** Called for each directory, by inodes of `from`. Returns whether lower layers have its name. */
      readonly enter: (parent: Inode, name: Buffer, inode: Inode) => boolean
      /** Called for each whiteout; `own` is the directory here. */
      readonly hide: (parent: Inode, name: Buffer, own: Inode) => void
    },
  ): void {
    const { tree } = this
    const folder = new LayerFolder(from)
    const copies = new Uint32Array(from.inodeCount).fill(NONE)
    copies[ROOT] = ROOT
    this.setRoot(from)
    for (let entry = 0; entry < from.entryCount; entry += 1) {
      const content = folder.contentOf(entry)
      if (content === 'nothing') continue
      const above = from.entryParent(entry)
      const parent = copies[above] ?? NONE
      const name = from.entryName(entry)
      if (content === 'whiteout') {
        walk.hide(above, name, parent)
        continue
      }
      const inode = from.entryInode(entry)
      if (from.isDirectory(inode)) {
        const isCovering = walk.enter(above, name, inode)
        const directory = this.#addDirectory(from, inode, { parent, name, isOpaque: folder.isOpaque(inode) })
        copies[inode] = directory
        if (isCovering) this.#covering.add(directory)
        continue
      }
      const known = copies[inode] ?? NONE
      const layer = layerIndex ?? from.fileData(inode).layer
      const copy = known === NONE ? tree.copyInode(from, inode, layer, parent) : known
      copies[inode] = copy
      tree.setEntry(parent, name, copy)
    }
  }

  #addDirectory(
    from: FileTree,
    inode: Inode,
    { parent, name, isOpaque }: { parent: Inode; name: Buffer; isOpaque: boolean },
  ): Inode {
    const { tree } = this
    const found = tree.find(parent, name)
    const isThere = found !== NONE && tree.isDirectory(found)
    const directory = isThere ? found : tree.copyInode(from, inode, 0, parent)
    // What was here hid the lower layers' content of that name, and the directory must do that, too.
    if (isOpaque || (!isThere && found !== NONE)) this.#opaque.add(directory)
    tree.setAttributes(directory, from.attributes(inode))
    const marks = this.#opaque.has(directory) ? [OPAQUE] : []
    tree.setXattrs(directory, [...from.xattrs(inode), ...marks])
    if (!isThere) tree.setEntry(parent, name, directory)
    return directory
  }

  /** One inode with many names. */
  #hide(parent: Inode, name: Buffer): void {
    if (this.#whiteout === NONE) this.#whiteout = this.tree.createSpecial(WHITEOUT, 0, 0)
    this.tree.setEntry(parent, name, this.#whiteout)
  }
}
