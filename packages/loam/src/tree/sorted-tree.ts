import { type Entry, type FileTree, type Inode, NONE, ROOT } from './file-tree.ts'

/** Represent `.` and `..` among entries. */
export const SELF = 0xfffffffe
export const UP = 0xfffffffd

/** The directories of a tree in the order of a walk, each with its names sorted by bytes, `.` and `..` among them. */
export class SortedTree {
  /** Directories, each before those in it. */
  readonly directories: Uint32Array
  readonly #starts: Uint32Array
  readonly #entries: Uint32Array
  /** Position of each directory in the walk. */
  readonly #places: ReadonlyMap<Inode, number>

  /** Takes the entries that `isShown`. Linear except for sorting each directory. */
  constructor(tree: FileTree, isShown: (entry: Entry) => boolean) {
    const directories: number[] = []
    const starts: number[] = [0]
    const entries = new Uint32Array(tree.entryCount + tree.inodeCount * 2 + 2)
    let used = 0
    const pending: Inode[] = [ROOT]
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      directories.push(directory)
      const below: Inode[] = []
      for (const entry of sortedEntries(tree, directory, isShown)) {
        entries[used] = entry
        used += 1
        const inode = entry >= UP ? NONE : tree.entryInode(entry)
        if (inode !== NONE && tree.isDirectory(inode)) below.push(inode)
      }
      starts.push(used)
      for (const inode of below.toReversed()) pending.push(inode)
    }
    this.directories = Uint32Array.from(directories)
    this.#starts = Uint32Array.from(starts)
    this.#entries = entries.subarray(0, used)
    this.#places = new Map(directories.map((directory, place) => [directory, place]))
  }

  /** Returns the entries of a directory; SELF and UP are among them. */
  entriesOf(directory: Inode): Uint32Array {
    const place = this.#places.get(directory) ?? 0
    return this.#entries.subarray(this.#starts[place], this.#starts[place + 1])
  }
}

function sortedEntries(tree: FileTree, directory: Inode, isShown: (entry: Entry) => boolean): Entry[] {
  const named: { name: string; entry: Entry }[] = [
    { name: '.', entry: SELF },
    { name: '..', entry: UP },
  ]
  // Strings of bytes compare as bytes do, and faster than buffers.
  for (const entry of tree.allChildren(directory)) {
    if (isShown(entry)) named.push({ name: tree.entryName(entry).toString('latin1'), entry })
  }
  named.sort((a, b) => (a.name < b.name ? -1 : 1))
  return named.map(({ entry }) => entry)
}
