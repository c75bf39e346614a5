import { WorkerPool } from '../layers/index.ts'

/** They wait for readers more than they work. */
const MAX_WRITERS = 8

/** The threads of the open stores of a process. Work that may wait for long, for whatever reason, never holds a thread that others wait for. */
export class Threads implements AsyncDisposable {
  /** For layer tasks. */
  readonly workers = new WorkerPool()
  /** For outputs that somebody else reads: who reads slowly stops other outputs at most. */
  readonly writers = new WorkerPool(MAX_WRITERS)
  /** For questions about sizes and contents, so that who asks waits for no layer. */
  readonly measurer = new WorkerPool(1)
  /** For syncs, which clients of snapshots wait for: measuring millions of files takes long. */
  readonly syncer = new WorkerPool(1)

  /** Takes no more layer tasks and outputs, and refuses those that wait for a thread. */
  refuse(): void {
    this.workers.refuse()
    this.writers.refuse()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [this.measurer, this.syncer, this.writers, this.workers]
    await Promise.all(all.map(async (pool) => pool[Symbol.asyncDispose]()))
  }
}
