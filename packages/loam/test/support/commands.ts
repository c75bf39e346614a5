// Runs the command without starting a process for each: a process takes a third of a second of a core, and most tests test the result
// of the command and not its start. It is the same command: its own `main`, in another process than the test, with the outputs, the exit
// status, the environment and the working directory of a process of its own. Tests that need a real process (its streams, signals,
// rights, memory, Node's options) start one: see `World.loamProcess` and `World.args`.
import { MessageChannel, receiveMessageOnPort, type MessagePort, Worker } from 'node:worker_threads'

/** A command line, and its directory. */
export interface CommandCall {
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
}

/** The output and exit status of a command; no status if a signal ended it. */
export interface CommandResult {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** More than the limit of a command in command-thread.ts. */
const LIMIT_MS = 180_000

let thread: Worker | undefined

/** Runs `loam ARGS` to its end, with additional variables; this thread waits. */
export function runCommand(args: readonly string[], env: NodeJS.ProcessEnv = {}): CommandResult {
  const { port, flag } = start(args, env)
  if (Atomics.wait(flag, 0, 0, LIMIT_MS) === 'timed-out') throw new Error(`no answer: loam ${args.join(' ')}`)
  const received: { readonly message: CommandResult } | undefined = receiveMessageOnPort(port)
  port.close()
  if (received === undefined) throw new Error(`no result: loam ${args.join(' ')}`)
  return received.message
}

/** Runs `loam ARGS` in the background, concurrently with other commands. */
export async function runCommandAsync(args: readonly string[]): Promise<CommandResult> {
  const { port } = start(args, {})
  const { promise, resolve } = Promise.withResolvers<CommandResult>()
  port.once('message', resolve)
  const result = await promise
  port.close()
  return result
}

function start(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): { readonly port: MessagePort; readonly flag: Int32Array } {
  if (thread === undefined) {
    thread = new Worker(new URL('command-thread.ts', import.meta.url))
    thread.unref()
  }
  const { port1, port2 } = new MessageChannel()
  const done = new SharedArrayBuffer(4)
  const call: CommandCall = { args, cwd: process.cwd(), env: { ...process.env, ...env } }
  thread.postMessage({ call, port: port2, done }, [port2])
  return { port: port1, flag: new Int32Array(done) }
}
