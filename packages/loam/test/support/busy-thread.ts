import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isErrno } from '../../src/errors/index.ts'
import type { LayerWorkers, RunOptions } from '../../src/layers/worker-pool.ts'

/** A thread writes and counts so much at once, and a pipe takes less. */
const CHUNK_BYTES = 1 << 20

/** A task that ends when the two chunks that it writes are read. */
export interface BusyThread {
  readonly task: Promise<unknown>
  readonly readChunk: () => Promise<void>
  /** Reads what is left, and waits for the end. */
  readonly free: () => Promise<void>
}

/** Keeps a thread busy: it writes to a pipe that nobody reads. The files are in `folder`, which the caller removes. */
export function occupyThread(
  workers: LayerWorkers,
  folder: string,
  onBytes?: RunOptions['onBytes'],
): BusyThread {
  const [pipe, path] = [join(folder, 'pipe'), join(folder, 'copied')]
  execFileSync('mkfifo', [pipe])
  writeFileSync(path, Buffer.alloc(2 * CHUNK_BYTES))
  const fd = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK)
  let left = 2 * CHUNK_BYTES
  const read = async (bytes: number) => {
    const buffer = Buffer.alloc(CHUNK_BYTES)
    for (const end = left - bytes; left > end; ) {
      try {
        left -= readSync(fd, buffer, 0, Math.min(buffer.length, left - end), null)
      } catch (error) {
        if (!isErrno(error, 'EAGAIN')) throw error
        await sleep(1)
      }
    }
  }
  const task = workers.run({ kind: 'copy', path, digest: undefined, target: fd }, { onBytes })
  return {
    task,
    readChunk: async () => read(CHUNK_BYTES),
    free: async () => {
      await read(left)
      await task
      closeSync(fd)
    },
  }
}
