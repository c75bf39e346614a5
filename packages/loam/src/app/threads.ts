import { type PoolLoad, WorkerPool } from '../layers/index.ts'
import { SharedMeasures } from './shared-measures.ts'

/** Writers wait for readers most of the time, so there may be more of them than processors. */
const MAX_WRITERS = 8

/** The threads of the open stores of a process. Work that may take long never occupies a thread that other kinds of work wait for. */
export class Threads implements AsyncDisposable {
  /** For layer tasks. */
  readonly workers = new WorkerPool()
  /** For outputs with readers: a slow reader can delay other outputs at most. */
  readonly writers = new WorkerPool(MAX_WRITERS)
  /** For measuring sizes and listing contents, so that such a call does not wait for layer tasks. */
  readonly measurer = new WorkerPool(1)
  /** For what volumes hold, which clients ask for again and again: a volume with millions of files must not delay commits. */
  readonly volumeMeasurer = new WorkerPool(1)
  /** Shared by all callers of this process. */
  readonly volumeMeasures = new SharedMeasures(this.volumeMeasurer)
  /** For syncs, which clients of snapshots wait for: measuring millions of files takes long. */
  readonly syncer = new WorkerPool(1)

  /** Returns what each pool has to do now. */
  get load(): Readonly<Record<'layers' | 'outputs' | 'measures' | 'volumes' | 'syncs', PoolLoad>> {
    const { workers, writers, measurer, volumeMeasurer, syncer } = this
    return {
      layers: workers.load,
      outputs: writers.load,
      measures: measurer.load,
      volumes: volumeMeasurer.load,
      syncs: syncer.load,
    }
  }

  /** Refuses further layer tasks and outputs, and those that wait for a thread. */
  refuse(): void {
    this.workers.refuse()
    this.writers.refuse()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [this.measurer, this.volumeMeasurer, this.syncer, this.writers, this.workers]
    await Promise.all(all.map(async (pool) => pool[Symbol.asyncDispose]()))
  }
}
