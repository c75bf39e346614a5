import { closeSync } from 'node:fs'
import { openDirectory, openDirectoryAt } from '../linux/index.ts'
import { type FileTree, type Inode, ROOT } from '../tree/index.ts'

const MAX_OPEN_DIRECTORIES = 256

/** Descriptors of directories of the tree being made, the latest used kept open. */
export class OpenDirectories implements Disposable {
  readonly #tree: FileTree
  readonly #open = new Map<Inode, number>()
  readonly #name = Buffer.alloc(256)

  constructor(tree: FileTree, target: string) {
    this.#tree = tree
    this.#open.set(ROOT, openDirectory(target))
  }

  /** Returns the descriptor of a directory, and opens it and those above it where they are not. */
  open(directory: Inode): number {
    const known = this.#open.get(directory)
    if (known !== undefined) {
      // Moved to the end: a Map keeps the order of insertion, which makes the first one the least used.
      this.#open.delete(directory)
      this.#open.set(directory, known)
      return known
    }
    const missing = [directory]
    let above = this.#tree.parentOfDirectory(directory)
    while (!this.#open.has(above)) {
      missing.push(above)
      above = this.#tree.parentOfDirectory(above)
    }
    let fd = this.open(above)
    for (const [index, inode] of missing.toReversed().entries()) {
      this.#tree.copyEntryName(this.#tree.entryOfDirectory(inode), this.#name)
      fd = openDirectoryAt(fd, this.#name)
      this.#open.set(inode, fd)
      // A tree may be deeper than descriptors are allowed.
      const passed = missing[missing.length - 1 - index + MAX_OPEN_DIRECTORIES / 2]
      if (passed !== undefined) this.close(passed)
    }
    return fd
  }

  /** Opens the directory above one that is open: from the top it may be a long way. No other process moves the directories of an unfinished tree. */
  openAbove(directory: Inode): void {
    const above = this.#tree.parentOfDirectory(directory)
    const fd = this.#open.get(directory)
    if (fd === undefined || this.#open.has(above)) return
    this.#open.set(above, openDirectoryAt(fd, '..'))
  }

  /** Closes the directories that were unused for longest. Called between entries: earlier descriptors become invalid. */
  trim(): void {
    if (this.#open.size <= MAX_OPEN_DIRECTORIES) return
    for (const inode of this.#open.keys()) {
      if (this.#open.size <= MAX_OPEN_DIRECTORIES / 2) return
      if (inode !== ROOT) this.close(inode)
    }
  }

  close(directory: Inode): void {
    const fd = this.#open.get(directory)
    if (fd === undefined) return
    this.#open.delete(directory)
    closeSync(fd)
  }

  [Symbol.dispose](): void {
    for (const inode of [...this.#open.keys()]) this.close(inode)
  }
}
