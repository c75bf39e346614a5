// The thread that commands.ts waits for: it keeps processes that run commands (command-process.ts), each with files for its outputs.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type MessagePort, parentPort } from 'node:worker_threads'
import type { CommandCall, CommandResult } from './commands.ts'

const PROGRAM = fileURLToPath(new URL('command-process.ts', import.meta.url))
/** Options that let scripts/processor-times.ts measure the test's own process, and so every process that it starts. */
const MEASURED = process.execArgv.flatMap((arg, index, all) =>
  arg === '--import' ? all.slice(index, index + 2) : [],
)
const COMMAND_LIMIT_MS = 120_000
/** Number of processes that wait for commands; there are more only while more commands run at once. */
const MAX_IDLE = 2

/** A message of commands.ts. */
interface Request {
  readonly call: CommandCall
  readonly port: MessagePort
  /** Becomes 1, and wakes the waiting thread, when the port has the result. */
  readonly done: SharedArrayBuffer
}

const idle: CommandProcess[] = []

parentPort?.on('message', (request: Request) => {
  void answer(request)
})

async function answer({ call, port, done }: Request): Promise<void> {
  const server = idle.pop() ?? new CommandProcess()
  const result = await server.run(call)
  if (server.isAlive && idle.length < MAX_IDLE) idle.push(server)
  else server.end()
  port.postMessage(result)
  const flag = new Int32Array(done)
  Atomics.store(flag, 0, 1)
  Atomics.notify(flag, 0)
}

class CommandProcess {
  readonly #stdout = new OutputFile()
  readonly #stderr = new OutputFile()
  readonly #child: ChildProcess
  readonly #started: Promise<void>
  #isAlive = true
  #settle: ((status: number | null) => void) | undefined

  constructor() {
    this.#child = spawn(process.execPath, [...MEASURED, PROGRAM, ...process.argv.slice(1, 2)], {
      stdio: ['ignore', this.#stdout.descriptor, this.#stderr.descriptor, 'ipc'],
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#started = promise
    this.#child.on('message', (message: 'ready' | { readonly status: number }) => {
      if (message === 'ready') resolve()
      else this.#settle?.(message.status)
    })
    this.#child.once('exit', (status) => {
      this.#isAlive = false
      resolve()
      this.#settle?.(status)
    })
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  async run(call: CommandCall): Promise<CommandResult> {
    await this.#started
    const { promise, resolve } = Promise.withResolvers<number | null>()
    this.#settle = resolve
    if (this.#isAlive) this.#child.send(call)
    else resolve(null)
    const limit = setTimeout(() => this.#child.kill('SIGKILL'), COMMAND_LIMIT_MS)
    const status = await promise
    clearTimeout(limit)
    return { status, stdout: this.#stdout.take(), stderr: this.#stderr.take() }
  }

  end(): void {
    this.#child.kill('SIGKILL')
    this.#stdout.close()
    this.#stderr.close()
  }
}

/** A file without a name that a process writes to. */
class OutputFile {
  readonly descriptor: number

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), 'loam-output-'))
    this.descriptor = openSync(join(folder, 'output'), 'a+')
    rmSync(folder, { recursive: true })
  }

  /** Returns the output since the last call. */
  take(): string {
    const bytes = Buffer.alloc(fstatSync(this.descriptor).size)
    for (let done = 0; done < bytes.length; )
      done += readSync(this.descriptor, bytes, done, bytes.length - done, done)
    ftruncateSync(this.descriptor)
    return bytes.toString('utf8')
  }

  close(): void {
    closeSync(this.descriptor)
  }
}
