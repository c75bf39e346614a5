// Ends a fuzzer that hangs, and keeps the input that it hangs on. Runs in a thread of its own.
import { writeFileSync } from 'node:fs'
import { isMainThread, Worker, workerData } from 'node:worker_threads'

const LIMIT_MS = 20_000
const MAX_BYTES = 1 << 20

/** Tells the watchdog the current input. */
export class Watchdog {
  readonly #state = new Int32Array(new SharedArrayBuffer(8))
  readonly #worker: Worker
  readonly #bytes = new Uint8Array(new SharedArrayBuffer(MAX_BYTES))

  constructor(path: string) {
    const data: WatchdogData = { state: this.#state, bytes: this.#bytes, path }
    this.#worker = new Worker(new URL(import.meta.url), { workerData: data })
    this.#worker.unref()
  }

  begin(input: Buffer): void {
    this.#bytes.set(input.subarray(0, MAX_BYTES))
    this.#state[1] = Math.min(input.length, MAX_BYTES)
    Atomics.add(this.#state, 0, 1)
  }

  /** No more inputs follow. */
  end(): void {
    void this.#worker.terminate()
  }
}

interface WatchdogData {
  readonly state: Int32Array
  readonly bytes: Uint8Array
  readonly path: string
}

if (!isMainThread) {
  const { state, bytes, path } = workerData as WatchdogData
  let last = -1
  setInterval(() => {
    const count = Atomics.load(state, 0)
    if (count === last) {
      writeFileSync(path, bytes.slice(0, state[1] ?? 0))
      console.error(`it hangs on ${path}`)
      process.kill(process.pid, 'SIGKILL')
    }
    last = count
  }, LIMIT_MS)
}
