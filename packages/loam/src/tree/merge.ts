import { LoamError } from '../errors/index.ts'
import { type Entry, type FileTree, type Inode, NONE, ROOT, S_LOWER_LINK } from './file-tree.ts'
import { findOwnDirectories } from './own-directories.ts'
import { showName, splitPath } from './paths.ts'

/**
 * Merges a layer's tree over the merged tree of the layers below it, by the OCI layer rules: first its whiteouts and
 * opaque marks act on lower layers, then its own entries take their places. A directory that the layer does not
 * list keeps the attributes it has below, and is neither created nor put in the place of a file for whiteouts
 * alone. Linear in the layer's entries and in what it removes.
 * @throws TAR_INVALID for a hard link whose target no layer has; LAYER_LIMIT
 */
export function applyLayer(merged: FileTree, layer: FileTree, layerIndex: number): void {
  // The number of a file's layer has 16 bits in a tree.
  if (layerIndex > 0xffff) throw new LoamError('LAYER_LIMIT', `merge layers: more than ${0xffff + 1}`)
  new LayerMerge(merged, layer, layerIndex).run()
}

class LayerMerge {
  readonly #merged: FileTree
  readonly #layer: FileTree
  readonly #layerIndex: number
  /** The merged tree's inode for each of the layer's that has been met, for hard links. */
  readonly #copies: Uint32Array
  readonly #own: Uint8Array

  constructor(merged: FileTree, layer: FileTree, layerIndex: number) {
    this.#merged = merged
    this.#layer = layer
    this.#layerIndex = layerIndex
    this.#copies = new Uint32Array(layer.inodeCount).fill(NONE)
    this.#own = findOwnDirectories(layer)
  }

  run(): void {
    // Before anything is removed: a link may name a file that this layer's whiteouts remove.
    this.#resolveLowerLinks()
    if (!this.#layer.isInherited(ROOT)) this.#copyAttributes(ROOT, ROOT)
    this.#copies[ROOT] = ROOT
    if (this.#layer.isOpaque(ROOT)) this.#merged.removeChildren(ROOT)
    // Entries of a layer come after those of their directories, so one pass in order of number is enough.
    for (let entry = 0; entry < this.#layer.entryCount; entry += 1) this.#applyEntry(entry)
  }

  #resolveLowerLinks(): void {
    for (let entry = 0; entry < this.#layer.entryCount; entry += 1) {
      const inode = this.#layer.entryInode(entry)
      if (inode === NONE || this.#layer.type(inode) !== S_LOWER_LINK) continue
      const target = this.#layer.linkTarget(inode)
      const found = this.#findLower(target)
      if (found === NONE || this.#merged.isDirectory(found)) {
        throw new LoamError(
          'TAR_INVALID',
          `merge layers: the hard link ${showName(this.#layer.entryPath(entry))} names ${showName(target)}, which ${found === NONE ? 'no layer has' : 'is a directory'}`,
        )
      }
      this.#copies[inode] = found
      this.#merged.setInherited(found, true)
    }
  }

  #findLower(path: Buffer): Inode {
    let inode = ROOT
    for (const name of splitPath(path) ?? []) {
      if (inode === NONE || !this.#merged.isDirectory(inode)) return NONE
      inode = this.#merged.find(inode, name)
    }
    return inode
  }

  #applyEntry(entry: Entry): void {
    const parent = this.#copies[this.#layer.entryParent(entry)] ?? NONE
    // The directory was replaced later in the same layer, and this entry with it; or it does not exist and must not be created.
    if (parent === NONE) return
    const inode = this.#layer.entryInode(entry)
    const name = this.#layer.entryName(entry)
    if (this.#layer.isWhiteout(entry)) this.#merged.removeEntry(parent, name)
    if (inode === NONE) return
    if (this.#layer.isDirectory(inode)) this.#applyDirectory(parent, name, inode)
    else this.#merged.setEntry(parent, name, this.#copyOf(inode))
  }

  #applyDirectory(parent: Inode, name: Buffer, inode: Inode): void {
    const below = this.#merged.find(parent, name)
    if (below === NONE || !this.#merged.isDirectory(below)) {
      if (this.#own[inode] !== 1) return
      const copy = this.#merged.copyInode(this.#layer, inode, this.#layerIndex, parent)
      this.#merged.setEntry(parent, name, copy)
      this.#copies[inode] = copy
      return
    }
    this.#copies[inode] = below
    if (!this.#layer.isInherited(inode)) this.#copyAttributes(inode, below)
    if (this.#layer.isOpaque(inode)) this.#merged.removeChildren(below)
  }

  #copyAttributes(from: Inode, to: Inode): void {
    this.#merged.setAttributes(to, this.#layer.attributes(from))
    this.#merged.setXattrs(to, this.#layer.xattrs(from))
  }

  #copyOf(inode: Inode): Inode {
    const known = this.#copies[inode] ?? NONE
    if (known !== NONE) return known
    const copy = this.#merged.copyInode(this.#layer, inode, this.#layerIndex, ROOT)
    this.#copies[inode] = copy
    return copy
  }
}
