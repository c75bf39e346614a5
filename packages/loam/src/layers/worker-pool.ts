import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { cancelable, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import { readCounts, SHARED_BYTES } from '../activity/index.ts'
import { releaseChunk } from '../compression/index.ts'
import type { Digest, DigestAlgorithm } from '../image/index.ts'
import { startThread } from '../linux/index.ts'
import type { FromWorker, LayerTask, TaskResult, ToWorker } from '../transform/index.ts'

/** The same in a checkout, where each module is a file, and in the package, where the worker is beside the bundle. */
const WORKER_FILE = extname(import.meta.url) === '.ts' ? '../transform/worker.ts' : './worker.js'
const MAX_WORKERS = 4
const YOUNG_GENERATION_MB = 4
/** Bytes of a blob that may be under way to a worker; enough to keep it busy, and all that is held of a blob. */
const WINDOW_BYTES = 2 << 20
/** A message takes longer than what a thread does with one chunk of a socket. */
const MESSAGE_BYTES = 256 << 10

/** The work of a pool at a moment. */
export interface PoolLoad {
  /** Threads that do a task. */
  readonly busy: number
  /** Tasks that wait for a thread. */
  readonly waiting: number
}

export interface RunOptions {
  /** The blob of an ingest. Asked for when a worker is free, so that no connection waits in a queue. */
  readonly source?: ((signal: AbortSignal) => AsyncIterable<Buffer>) | undefined
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes of the blob that the worker has consumed so far. */
  readonly onProgress?: ((consumedBytes: number) => void) | undefined
  /** Called now and then with the bytes that the task has read or written, and with all of them if that is known. */
  readonly onBytes?: OnBytes | undefined
}

/** Gets the bytes that a task has read or written, and all of them; undefined: that is not known. */
export type OnBytes = (doneBytes: number, totalBytes: number | undefined) => void

const BYTES_MS = 100

/** Threads for layer tasks. */
export interface LayerWorkers {
  /** Number of threads that there may be. */
  readonly size: number
  /** Gets ready for a task that is going to come. */
  readonly warmUp: () => void
  /** Runs a task to its end. @throws the error of the task; CANCELED when the signal fires */
  readonly run: <T extends LayerTask>(task: T, options?: RunOptions) => Promise<TaskResult<T>>
}

/** Reads a file in a thread and returns its digest. */
export async function hashFile(
  workers: LayerWorkers,
  path: string,
  {
    algorithm = 'sha256',
    ...options
  }: { algorithm?: DigestAlgorithm } & Pick<RunOptions, 'signal' | 'onBytes'> = {},
): Promise<Digest> {
  return workers.run({ kind: 'hash', path, algorithm }, options)
}

/**
 * Threads for layer tasks, at most one for each processor and four in all; made when they are needed and kept until
 * the pool is disposed. More tasks than threads wait, in order.
 */
export class WorkerPool implements AsyncDisposable, LayerWorkers {
  readonly size: number
  readonly #idle: Worker[] = []
  #isClosed = false
  readonly #all = new Set<Worker>()
  readonly #waiting: PromiseWithResolvers<Worker>[] = []

  /** Returns how much it has to do now. */
  get load(): PoolLoad {
    return { busy: this.#all.size - this.#idle.length, waiting: this.#waiting.length }
  }

  constructor(size = Math.min(availableParallelism(), MAX_WORKERS)) {
    this.size = Math.max(1, size)
  }

  /** Starts a thread for a task that will follow, if no thread is running. */
  warmUp(): void {
    if (this.#all.size === 0) this.#idle.push(this.#start())
  }

  /** Runs a task to its end. @throws the error of the task; CANCELED when the signal fires */
  async run<T extends LayerTask>(task: T, options: RunOptions = {}): Promise<TaskResult<T>> {
    return cancelable(options.signal, `${task.kind} layer`, async () => {
      const worker = await this.#acquire(options.signal)
      worker.ref()
      try {
        const result = await new TaskRun(worker, task, options).finish()
        return result as TaskResult<T>
      } finally {
        // A worker that failed a task by itself is as good as before; one that died is not.
        if (this.#all.has(worker)) this.#release(worker)
      }
    })
  }

  async #acquire(signal: AbortSignal | undefined): Promise<Worker> {
    const idle = this.#idle.pop()
    if (this.#isClosed) throw refused()
    if (idle !== undefined) return idle
    if (this.#all.size < this.size) return this.#start()
    const turn = Promise.withResolvers<Worker>()
    this.#waiting.push(turn)
    const leave = () => {
      const at = this.#waiting.indexOf(turn)
      if (at < 0) return
      this.#waiting.splice(at, 1)
      turn.reject(new LoamError('CANCELED', 'wait for a thread: canceled', { cause: signal?.reason }))
    }
    signal?.addEventListener('abort', leave)
    try {
      return await turn.promise
    } finally {
      signal?.removeEventListener('abort', leave)
    }
  }

  #start(): Worker {
    const worker = startThread(new URL(WORKER_FILE, import.meta.url), {
      // Descriptors are opened by system calls of our own, which Node does not see.
      trackUnmanagedFds: false,
      // Objects of a worker die young or live in its own tables: a larger young generation would only hold garbage.
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    })
    worker.setMaxListeners(0)
    worker.unref()
    this.#all.add(worker)
    worker.once('exit', () => {
      this.#all.delete(worker)
      const at = this.#idle.indexOf(worker)
      if (at >= 0) this.#idle.splice(at, 1)
      // A caller may be waiting for the thread that has just died.
      if (!this.#isClosed) this.#waiting.shift()?.resolve(this.#start())
    })
    return worker
  }

  #release(worker: Worker): void {
    // A closed pool waits for the end of its threads, and then a process may have nothing else left to do.
    if (!this.#isClosed) worker.unref()
    const next = this.#waiting.shift()
    if (next === undefined) this.#idle.push(worker)
    else next.resolve(worker)
  }

  /** Takes no more tasks, and refuses those that wait for a thread. Tasks that have one go on. */
  refuse(): void {
    this.#isClosed = true
    for (const turn of this.#waiting.splice(0)) turn.reject(refused())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.refuse()
    await Promise.all([...this.#all].map((worker) => worker.terminate()))
  }
}

function refused(): LoamError {
  return new LoamError('CANCELED', 'wait for a thread: the store is closed')
}

/** One task on one worker. */
class TaskRun {
  readonly #worker: Worker
  readonly #task: LayerTask
  readonly #options: RunOptions
  readonly #canceled = new SharedArrayBuffer(SHARED_BYTES)
  readonly #over = new AbortController()
  /** Memory of the next message. */
  #message: Buffer | undefined
  #gatheredBytes = 0
  /** Bytes that were sent or gathered. */
  #sentBytes = 0
  #consumedBytes = 0
  #wake: (() => void) | undefined
  #isOver = false

  constructor(worker: Worker, task: LayerTask, options: RunOptions) {
    this.#worker = worker
    this.#task = task
    this.#options = options
  }

  async finish(): Promise<TaskResult<LayerTask>> {
    const { promise, resolve, reject } = Promise.withResolvers<TaskResult<LayerTask>>()
    const onMessage = (message: FromWorker) => {
      if (message.kind === 'consumed') this.#onConsumed(message.bytes)
      else if (message.kind === 'done') resolve(message.result)
      else reject(LoamError.fromPlain(message.error))
    }
    const onError = (error: unknown) => {
      reject(toLoamError(error, `${this.#task.kind} layer`))
    }
    const onExit = () => {
      reject(new LoamError('INTERNAL', `${this.#task.kind} layer: its worker thread exited early`))
    }
    const onAbort = () => {
      Atomics.store(new Int32Array(this.#canceled), 0, 1)
      this.#wakeSender()
    }
    this.#worker.on('message', onMessage).on('error', onError).on('exit', onExit)
    this.#options.signal?.addEventListener('abort', onAbort)
    this.#send({ kind: 'task', task: this.#task, canceled: this.#canceled })
    const sending = this.#sendSource()
    const reporting = this.#reportBytes()
    try {
      return await promise
    } finally {
      clearInterval(reporting)
      this.#isOver = true
      this.#over.abort()
      this.#wakeSender()
      this.#worker.off('message', onMessage).off('error', onError).off('exit', onExit)
      this.#options.signal?.removeEventListener('abort', onAbort)
      await sending
    }
  }

  #reportBytes(): NodeJS.Timeout | undefined {
    const { onBytes } = this.#options
    if (onBytes === undefined) return undefined
    let reported = 0
    const report = () => {
      const { doneBytes, totalBytes } = readCounts(this.#canceled)
      if (doneBytes !== reported) onBytes(doneBytes, totalBytes)
      reported = doneBytes
    }
    return setInterval(report, BYTES_MS).unref()
  }

  #send(message: ToWorker, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer)
  }

  #onConsumed(bytes: number): void {
    this.#consumedBytes += bytes
    this.#options.onProgress?.(this.#consumedBytes)
    this.#wakeSender()
  }

  #wakeSender(): void {
    this.#wake?.()
    this.#wake = undefined
  }

  /** Never rejects: a source that fails is the worker's to report, which then ends the task. */
  async #sendSource(): Promise<void> {
    const { source, signal } = this.#options
    if (source === undefined) return
    try {
      const either = signal === undefined ? this.#over.signal : AbortSignal.any([signal, this.#over.signal])
      for await (const chunk of source(either)) {
        this.#gather(chunk)
        while (this.#sentBytes - this.#consumedBytes > WINDOW_BYTES && !this.#mustStop(signal)) {
          const { promise, resolve } = Promise.withResolvers<void>()
          this.#wake = resolve
          await promise
        }
        if (this.#isOver) return
        throwIfAborted(signal, 'fetch layer')
      }
      this.#flush()
      this.#send({ kind: 'end' })
    } catch (error) {
      this.#flush()
      this.#send({ kind: 'end', error: toLoamError(error, 'fetch layer').toPlain() })
    }
  }

  /** Adds a chunk to the next message, which is sent when it is full, or when no more chunks are at hand. */
  #gather(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#gatheredBytes === 0)
        setImmediate(() => {
          this.#flush()
        })
      this.#message ??= Buffer.allocUnsafeSlow(MESSAGE_BYTES)
      const bytes = chunk.copy(this.#message, this.#gatheredBytes, at)
      at += bytes
      this.#gatheredBytes += bytes
      if (this.#gatheredBytes === MESSAGE_BYTES) this.#flush()
    }
    this.#sentBytes += chunk.length
    releaseChunk(chunk)
  }

  #flush(): void {
    const gathered = this.#message?.subarray(0, this.#gatheredBytes)
    this.#gatheredBytes = 0
    // The thread may have another task by now.
    if (gathered === undefined || gathered.length === 0 || this.#isOver) return
    const isMostly = gathered.length > MESSAGE_BYTES / 2
    const bytes = isMostly ? gathered : new Uint8Array(gathered)
    if (isMostly) this.#message = undefined
    this.#send({ kind: 'chunk', bytes }, [bytes.buffer as ArrayBuffer])
  }

  #mustStop(signal: AbortSignal | undefined): boolean {
    return this.#isOver || signal?.aborted === true
  }
}
