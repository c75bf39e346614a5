import { FileTree, type Inode, NONE, ROOT, S_IFLNK, S_IFREG } from './file-tree.ts'
import type { OverlayView } from './overlay-view.ts'
import type { Xattr } from './xattr-sets.ts'

/**
 * Plans a layer on top of the folders of a stack of layers, so that overlayfs shows the merged tree: a layer like any
 * other, with all names that are shown wrongly or not at all, and whiteouts for names that must not be seen. Returns undefined
 * if nothing has to be corrected. Linear in entries.
 */
export function planFixup(merged: FileTree, view: OverlayView): FileTree | undefined {
  return new FixupPlan(merged, view).run()
}

/** A directory of the merged tree, and the directory that is shown under its name: NONE if that is not a directory. */
interface Pair {
  readonly directory: Inode
  readonly shown: Inode
}

class FixupPlan {
  readonly #merged: FileTree
  readonly #view: OverlayView
  readonly #shown: FileTree
  readonly #fixup = new FileTree()
  /** Files of the merged tree that are shown as something else under one of their names: all names are rebuilt. */
  readonly #wrong: Uint8Array
  /** The shown file of each merged one, and the other way round. */
  readonly #shownOf: Uint32Array
  readonly #mergedOf: Uint32Array
  /** The fixup's inode for each of the merged tree's. */
  readonly #copies: Uint32Array
  #isEmpty = true

  constructor(merged: FileTree, view: OverlayView) {
    this.#merged = merged
    this.#view = view
    this.#shown = view.tree
    this.#wrong = new Uint8Array(merged.inodeCount)
    this.#shownOf = new Uint32Array(merged.inodeCount).fill(NONE)
    this.#mergedOf = new Uint32Array(this.#shown.inodeCount).fill(NONE)
    this.#copies = new Uint32Array(merged.inodeCount).fill(NONE)
    this.#copies[ROOT] = ROOT
  }

  run(): FileTree | undefined {
    this.#fixup.setAttributes(ROOT, this.#merged.attributes(ROOT))
    this.#fixup.setXattrs(ROOT, this.#merged.xattrs(ROOT))
    const pairs = this.#compare()
    for (const pair of pairs) this.#mend(pair)
    return this.#isEmpty ? undefined : this.#fixup
  }

  /** Finds all directories, and the files that are shown wrongly. */
  #compare(): readonly Pair[] {
    const pairs: Pair[] = [{ directory: ROOT, shown: ROOT }]
    for (const { directory, shown } of pairs) {
      for (const entry of this.#merged.children(directory)) {
        const inode = this.#merged.entryInode(entry)
        const other = shown === NONE ? NONE : this.#shown.find(shown, this.#merged.entryName(entry))
        if (!this.#merged.isDirectory(inode)) this.#compareFile(inode, other)
        else if (other !== NONE && this.#shown.isDirectory(other))
          pairs.push({ directory: inode, shown: other })
        else pairs.push({ directory: inode, shown: NONE })
      }
    }
    return pairs
  }

  #compareFile(inode: Inode, other: Inode): void {
    const known = this.#shownOf[inode] ?? NONE
    this.#shownOf[inode] = other
    if (
      other === NONE ||
      (known !== NONE && known !== other) ||
      !isSame(this.#merged, inode, this.#shown, other)
    )
      this.#wrong[inode] = 1
    if (other === NONE) return
    const twin = this.#mergedOf[other] ?? NONE
    this.#mergedOf[other] = inode
    if (twin === NONE || twin === inode) return
    this.#wrong[twin] = 1
    this.#wrong[inode] = 1
  }

  #mend({ directory, shown }: Pair): void {
    const merged = this.#merged
    const isShownRight =
      directory === ROOT || (shown !== NONE && isSame(merged, directory, this.#shown, shown))
    // A directory of the fixup makes the one below it a merged one, whose whiteouts are not listed.
    if (!isShownRight || (shown !== NONE && this.#view.showsWhiteouts(shown))) this.#copyOf(directory)
    for (const entry of merged.children(directory)) {
      const inode = merged.entryInode(entry)
      if (this.#wrong[inode] !== 1) continue
      this.#isEmpty = false
      const parent = this.#copyOf(directory)
      const copy = this.#copyFile(inode)
      this.#fixup.setEntry(parent, merged.entryName(entry), copy)
    }
    if (shown === NONE) return
    for (const entry of this.#shown.children(shown)) {
      const name = this.#shown.entryName(entry)
      if (merged.find(directory, name) !== NONE) continue
      this.#isEmpty = false
      this.#fixup.markWhiteout(this.#copyOf(directory), name)
    }
  }

  #copyFile(inode: Inode): Inode {
    const known = this.#copies[inode] ?? NONE
    if (known !== NONE) return known
    const copy = this.#fixup.copyInode(this.#merged, inode, this.#merged.fileData(inode).layer, ROOT)
    this.#copies[inode] = copy
    return copy
  }

  /** Returns the fixup's directory for one of the merged tree, and creates it and its missing parents. */
  #copyOf(directory: Inode): Inode {
    const missing: Inode[] = []
    let above = directory
    for (; this.#copies[above] === NONE; above = this.#merged.parentOfDirectory(above)) missing.push(above)
    let parent = this.#copies[above] ?? ROOT
    for (const inode of missing.toReversed()) {
      this.#isEmpty = false
      const copy = this.#fixup.copyInode(this.#merged, inode, 0, parent)
      this.#fixup.setEntry(parent, this.#merged.entryName(this.#merged.entryOfDirectory(inode)), copy)
      this.#copies[inode] = copy
      parent = copy
    }
    return parent
  }
}

/** Returns whether inodes of two trees look the same to a process. */
function isSame(a: FileTree, inode: Inode, b: FileTree, other: Inode): boolean {
  const [x, y] = [a.attributes(inode), b.attributes(other)]
  const isEqual =
    x.mode === y.mode &&
    x.uid === y.uid &&
    x.gid === y.gid &&
    x.mtimeSeconds === y.mtimeSeconds &&
    x.mtimeNanoseconds === y.mtimeNanoseconds
  return isEqual && hasSameXattrs(a, inode, b, other) && hasSameContent(a, inode, b, other)
}

function hasSameXattrs(a: FileTree, inode: Inode, b: FileTree, other: Inode): boolean {
  const [x, y] = [a.xattrs(inode), b.xattrs(other)]
  const isEqual = ({ name, value }: Xattr, index: number) =>
    y[index] !== undefined && y[index].name.equals(name) && y[index].value.equals(value)
  return x.length === y.length && x.every(isEqual)
}

/** Their types are equal. Data in the same location is the same. */
function hasSameContent(a: FileTree, inode: Inode, b: FileTree, other: Inode): boolean {
  const type = a.type(inode)
  if (a.isDirectory(inode)) return true
  if (type === S_IFLNK) return a.linkTarget(inode).equals(b.linkTarget(other))
  if (type !== S_IFREG) {
    const [x, y] = [a.device(inode), b.device(other)]
    return x.major === y.major && x.minor === y.minor
  }
  const [x, y] = [a.fileData(inode), b.fileData(other)]
  return x.layer === y.layer && x.offset === y.offset && x.sizeBytes === y.sizeBytes
}
