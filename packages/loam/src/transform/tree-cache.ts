import type { Digest } from '../image/index.ts'
import type { FileTree } from '../tree/index.ts'

/** Some 20 MiB. */
const MAX_ENTRIES = 200_000

/**
 * The trees of layers that a thread has just read: the next merge in that thread need not read them again. They are kept until then, within bounds. Their
 * keys are those of `treeKey`.
 */
export class TreeCache {
  readonly #trees = new Map<Digest, FileTree>()
  #entries = 0

  keep(key: Digest, tree: FileTree): void {
    if (this.#trees.has(key) || this.#entries + tree.entryCount > MAX_ENTRIES) return
    this.#entries += tree.entryCount
    this.#trees.set(key, tree)
  }

  find(key: Digest): FileTree | undefined {
    return this.#trees.get(key)
  }

  clear(): void {
    this.#trees.clear()
    this.#entries = 0
  }
}
