// The thread that runs layer tasks. One at a time; see worker-pool.ts for the messages.
import { parentPort } from 'node:worker_threads'
import { LoamError, toLoamError } from '../errors/index.ts'
import { TreeCache } from './tree-cache.ts'
import { createContentsReader, runTask } from './tasks.ts'
import type { FromWorker, ToWorker } from './worker-messages.ts'

const port = parentPort
if (port === null) throw new LoamError('INTERNAL', 'transform/worker.ts runs only as a worker thread')

const send = (message: FromWorker) => {
  port.postMessage(message)
}

/** A message costs more than a chunk does. */
const REPORT_BYTES = 512 << 10

/** The chunks of one task that have come and not been consumed. One for each task: an old reader gets nothing of a new one's. */
class ChunkQueue {
  readonly #items: (Buffer | Error | undefined)[] = []
  #wake: (() => void) | undefined

  /** Adds a chunk, an error of the source, or undefined for the end. */
  push(item: Buffer | Error | undefined): void {
    this.#items.push(item)
    this.#wake?.()
  }

  async *read(): AsyncGenerator<Buffer> {
    let consumedBytes = 0
    for (;;) {
      while (this.#items.length === 0) {
        const { promise, resolve } = Promise.withResolvers<void>()
        this.#wake = resolve
        await promise
      }
      const next = this.#items.shift()
      if (next === undefined) return
      if (next instanceof Error) throw next
      // The reader takes the chunk over and may have given its memory back by the time that it asks for more.
      const bytes = next.length
      yield next
      consumedBytes += bytes
      // The sender's window is larger than this: it never waits to hear of the rest.
      if (consumedBytes >= REPORT_BYTES) {
        send({ kind: 'consumed', bytes: consumedBytes })
        consumedBytes = 0
      }
    }
  }
}

let queue = new ChunkQueue()
const trees = new TreeCache()
const contents = createContentsReader()

async function start({ task, canceled }: Extract<ToWorker, { kind: 'task' }>): Promise<void> {
  const chunks = new ChunkQueue()
  queue = chunks
  try {
    send({
      kind: 'done',
      result: await runTask(task, chunks.read(), { canceled: new Int32Array(canceled), trees, contents }),
    })
  } catch (error) {
    send({ kind: 'failed', error: toLoamError(error, `${task.kind} layer`).toPlain() })
  } finally {
    // A reader that still waits for a chunk of this task ends, and frees its memory.
    chunks.push(undefined)
  }
}

port.on('message', (message: ToWorker) => {
  switch (message.kind) {
    case 'task':
      void start(message)
      break
    case 'chunk':
      queue.push(Buffer.from(message.bytes.buffer, message.bytes.byteOffset, message.bytes.byteLength))
      break
    case 'end':
      queue.push(message.error === undefined ? undefined : LoamError.fromPlain(message.error))
      break
  }
})
