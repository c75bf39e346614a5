import type { SharedIndex, SharedIndexes } from '../content/index.ts'
import type { Digest } from '../image/index.ts'
import type { LayerWorkers } from './worker-pool.ts'

/** The directory of `lazy_index_dir`, read in other threads: it may be on a file system of the network that does not answer for minutes. */
export class DirectoryInThread implements SharedIndexes {
  readonly path: string
  readonly #workers: LayerWorkers

  constructor(path: string, workers: LayerWorkers) {
    this.path = path
    this.#workers = workers
  }

  /** As `LazyIndexDirectory.find`. */
  async find(blob: Digest, maxBytes: number): Promise<SharedIndex | undefined> {
    const found = await this.#workers.run({ kind: 'shared-index', directory: this.path, blob, maxBytes })
    if (found === undefined) return undefined
    const { buffer, byteOffset, length } = found.bytes
    return { digest: found.digest, bytes: Buffer.from(buffer, byteOffset, length) }
  }
}
