// The thread that runs layer tasks. One at a time; see worker-pool.ts for the messages.
import { parentPort } from 'node:worker_threads'
import { LoamError, toLoamError } from '../errors/index.ts'
import { runTask } from './tasks.ts'
import type { FromWorker, ToWorker } from './worker-messages.ts'

const port = parentPort
if (port === null) throw new LoamError('SYSTEM', 'layers/worker.ts runs only as a worker thread')

const send = (message: FromWorker) => {
  port.postMessage(message)
}

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
      send({ kind: 'consumed', bytes })
    }
  }
}

let queue = new ChunkQueue()

async function start({ task, canceled }: Extract<ToWorker, { kind: 'task' }>): Promise<void> {
  queue = new ChunkQueue()
  try {
    send({ kind: 'done', result: await runTask(task, queue.read(), new Int32Array(canceled)) })
  } catch (error) {
    send({ kind: 'failed', error: toLoamError(error, `${task.kind} layer`).toPlain() })
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
