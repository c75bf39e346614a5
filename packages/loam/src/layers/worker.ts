// The thread that runs layer tasks. One at a time; see worker-pool.ts for the messages.
import { parentPort } from 'node:worker_threads'
import { LoamError, toLoamError } from '../errors/index.ts'
import { runTask } from './tasks.ts'
import type { FromWorker, ToWorker } from './worker-messages.ts'

const port = parentPort
if (port === null) throw new LoamError('SYSTEM', 'layers/worker.ts runs only as a worker thread')

/** Chunks that have come and not been consumed. */
let queue: (Buffer | Error | undefined)[] = []
let wake: (() => void) | undefined

const send = (message: FromWorker) => {
  port.postMessage(message)
}

async function* receive(): AsyncGenerator<Buffer> {
  for (;;) {
    while (queue.length === 0) {
      const { promise, resolve } = Promise.withResolvers<void>()
      wake = resolve
      await promise
    }
    const next = queue.shift()
    if (next === undefined) return
    if (next instanceof Error) throw next
    yield next
    send({ kind: 'consumed', bytes: next.length })
  }
}

function enqueue(item: Buffer | Error | undefined): void {
  queue.push(item)
  wake?.()
  wake = undefined
}

async function start({ task, canceled }: Extract<ToWorker, { kind: 'task' }>): Promise<void> {
  queue = []
  try {
    send({ kind: 'done', result: await runTask(task, receive(), new Int32Array(canceled)) })
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
      enqueue(Buffer.from(message.bytes.buffer, message.bytes.byteOffset, message.bytes.byteLength))
      break
    case 'end':
      enqueue(message.error === undefined ? undefined : LoamError.fromPlain(message.error))
      break
  }
})
