import { type Entry, type FileTree, type Inode, NONE, ROOT, S_LOWER_LINK } from './file-tree.ts'
import { findOwnDirectories } from './own-directories.ts'

/** The kind of file that the folder of a layer has for an entry. */
export type FolderContent = 'nothing' | 'whiteout' | 'inode'

const ABSENT = 0
const OPEN = 1
/** Hides everything in lower layers. */
const SEALED = 2

/**
 * Decides the content of the folder of one layer, which overlayfs stacks: whiteouts as devices 0:0, opaque directories, and no
 * links into lower layers. It is created without the layers below it. So it differs from the meaning of the layer where that depends on
 * the stack; `planFixup` corrects that. The tree must not change afterwards. Linear in entries.
 */
export class LayerFolder {
  readonly #tree: FileTree
  readonly #contents: Uint8Array
  readonly #opaque: Uint8Array

  constructor(tree: FileTree) {
    this.#tree = tree
    this.#contents = new Uint8Array(tree.entryCount)
    this.#opaque = new Uint8Array(tree.inodeCount)
    const own = findOwnDirectories(tree)
    const states = new Uint8Array(tree.inodeCount)
    states[ROOT] = OPEN
    // A directory's entry comes before its content.
    for (let entry = 0; entry < tree.entryCount; entry += 1) {
      const state = states[tree.entryParent(entry)] ?? ABSENT
      const content = state === ABSENT ? 'nothing' : this.#decide(entry, own, state === SEALED)
      this.#contents[entry] = CONTENTS.indexOf(content)
      const inode = tree.entryInode(entry)
      if (content !== 'inode' || !tree.isDirectory(inode)) continue
      const isOpaque = tree.isOpaque(inode) || tree.isWhiteout(entry)
      this.#opaque[inode] = isOpaque ? 1 : 0
      states[inode] = isOpaque ? SEALED : state
    }
  }

  #decide(entry: Entry, own: Uint8Array, isSealed: boolean): FolderContent {
    const tree = this.#tree
    const inode = tree.entryInode(entry)
    const hidden = tree.isWhiteout(entry) && !isSealed ? 'whiteout' : 'nothing'
    if (inode === NONE) return hidden
    if (tree.type(inode) === S_LOWER_LINK) return 'nothing'
    if (!tree.isDirectory(inode) || own[inode] === 1) return 'inode'
    // Created only for whiteouts: those act on lower layers, if there are any.
    return isSealed || tree.isWhiteout(entry) ? hidden : 'inode'
  }

  contentOf(entry: Entry): FolderContent {
    return CONTENTS[this.#contents[entry] ?? 0] ?? 'nothing'
  }

  /** Returns whether a directory hides its content in lower layers. */
  isOpaque(directory: Inode): boolean {
    return this.#opaque[directory] === 1
  }
}

const CONTENTS: readonly FolderContent[] = ['nothing', 'whiteout', 'inode']
