import { SingleFlight } from '../content/index.ts'
import type { WorkerPool } from '../layers/index.ts'
import { diskUsage } from '../linux/index.ts'
import type { FolderUsage } from '../transform/index.ts'

/** Number of inodes up to which a directory is measured on the main thread: it takes as long as one call to a thread. */
const SMALL_FOLDER = 64
/** How long the measure of a large directory is good for. The kubelet asks each minute. */
const KEEP_MS = 30_000

interface Measure {
  readonly usage: FolderUsage
  readonly until: number
}

/** Measures the disk usage of a directory: of a large one in a thread. */
export async function measureFolder(workers: WorkerPool, folder: string): Promise<FolderUsage> {
  return measureSmall(folder) ?? (await workers.run({ kind: 'measure', folder }))
}

function measureSmall(folder: string): FolderUsage | undefined {
  return diskUsage(folder, { maxInodes: SMALL_FOLDER })
}

/**
 * Measures of directories that many callers ask for again and again. A large directory is walked once for all that ask at the same time, and its
 * measure is kept for some seconds.
 */
export class SharedMeasures {
  readonly #workers: WorkerPool
  readonly #flights = new SingleFlight()
  readonly #kept = new Map<string, Measure>()

  constructor(workers: WorkerPool) {
    this.#workers = workers
  }

  /** Measures a directory. The walk ends when its last caller has left. @throws CANCELED when `signal` fires */
  async of(folder: string, signal: AbortSignal | undefined): Promise<FolderUsage> {
    const small = measureSmall(folder)
    if (small !== undefined) return small
    for (;;) {
      const kept = this.#kept.get(folder)
      if (kept !== undefined && performance.now() < kept.until) return kept.usage
      await this.#flights.join(folder, signal, async (stop) => {
        const usage = await this.#workers.run({ kind: 'measure', folder }, { signal: stop })
        this.#keep(folder, usage)
      })
    }
  }

  #keep(folder: string, usage: FolderUsage): void {
    const now = performance.now()
    for (const [path, { until }] of this.#kept) if (until <= now) this.#kept.delete(path)
    this.#kept.set(folder, { usage, until: now + KEEP_MS })
  }
}
