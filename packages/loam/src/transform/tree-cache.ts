import type { DiffId } from '../image/index.ts'
import type { FileTree } from '../tree/index.ts'

/** Some 20 MiB. */
const MAX_ENTRIES = 200_000

/**
 * The trees of layers that a thread has just ingested: the next merge in that thread need not read them again. They are
 * kept until then, within bounds.
 */
export class TreeCache {
  readonly #trees = new Map<DiffId, FileTree>()
  #entries = 0

  keep(diffId: DiffId, tree: FileTree): void {
    if (this.#trees.has(diffId) || this.#entries + tree.entryCount > MAX_ENTRIES) return
    this.#entries += tree.entryCount
    this.#trees.set(diffId, tree)
  }

  find(diffId: DiffId): FileTree | undefined {
    return this.#trees.get(diffId)
  }

  clear(): void {
    this.#trees.clear()
    this.#entries = 0
  }
}
