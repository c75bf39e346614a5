import { type ChildProcess, spawn, type StdioOptions } from 'node:child_process'
import { basename, delimiter, join } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { mayExecute } from './in-root.ts'

/** The status and output of a program that has ended. */
export interface ProgramResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface ProgramOptions {
  /** All of the program's environment (environment.ts). */
  readonly env: Readonly<Record<string, string>>
  readonly input?: string | Buffer
  /** Open files that it gets as descriptors from 3 on. */
  readonly files?: readonly number[]
  readonly timeoutMs?: number
  readonly maxOutputBytes?: number
  readonly signal?: AbortSignal | undefined
}

/** How many of the last lines of a program's output its error contains. */
const LAST_LINES = 5

/** Returns the error of a program that failed: with its purpose, its status, and the last lines that it wrote. */
export function programFailed(
  attempted: string,
  file: string,
  { status, stderr }: Pick<ProgramResult, 'status' | 'stderr'>,
): LoamError {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '')
  const words = lines.slice(-LAST_LINES).join('; ')
  const program = basename(file)
  return new LoamError(
    'PROGRAM_FAILED',
    `${attempted}: ${program} ended with status ${status}${words === '' ? '' : `: ${words}`}`,
    { details: { program, status } },
  )
}

/**
 * Runs a program to its end and collects its output, bounded. It is killed if it takes too long or writes too much.
 * @throws PROGRAM_FAILED for one that is not installed or is killed, CANCELED, and system errors; the caller checks its status
 */
export async function runProgram(
  file: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<ProgramResult> {
  const { timeoutMs = 30_000, maxOutputBytes = 1 << 20 } = options
  const child = spawn(file, args, {
    stdio: ['pipe', 'pipe', 'pipe', ...(options.files ?? [])],
    env: options.env,
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  })
  const exit = exitOf(child)
  // Without free descriptors there are no pipes, and the error is emitted later.
  const { stdin } = child
  const stdout = gather(child, child.stdout, maxOutputBytes)
  const stderr = gather(child, child.stderr, maxOutputBytes)
  // A program that does not read its input closes the pipe; that is not an error.
  stdin?.on('error', () => undefined)
  stdin?.end(options.input ?? '')
  try {
    const { status, signal } = await exit
    if (signal !== undefined) {
      throw new LoamError(
        'PROGRAM_FAILED',
        `run ${file}: killed by ${signal}; the time limit is ${timeoutMs} ms`,
        {
          details: { program: file, signal },
        },
      )
    }
    return { status, stdout: stdout(), stderr: stderr() }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) {
      throw new LoamError('PROGRAM_FAILED', `run ${file}: it is not installed`, {
        cause: error,
        details: { program: file },
      })
    }
    throw toLoamError(error, `run ${file}`, options.signal)
  }
}

function gather(
  child: ChildProcess,
  stream: NodeJS.ReadableStream | null | undefined,
  maxBytes: number,
): () => string {
  const chunks: Buffer[] = []
  let bytes = 0
  stream?.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > maxBytes) child.kill('SIGKILL')
    else chunks.push(chunk)
  })
  return () => Buffer.concat(chunks).toString('utf8')
}

interface Exit {
  readonly status: number
  readonly signal: NodeJS.Signals | undefined
}

async function exitOf(child: ChildProcess): Promise<Exit> {
  const { promise, resolve, reject } = Promise.withResolvers<Exit>()
  child.once('error', reject)
  child.once('close', (status, signal) => {
    resolve({ status: status ?? 0, signal: signal ?? undefined })
  })
  return promise
}

/** The standard streams of a program; null for one that is not a pipe. */
export type ProgramStreams = Pick<ChildProcess, 'stdin' | 'stdout' | 'stderr'>

/** Starts a program. `exit` is its status, 128 and the signal's number when a signal ended it; data may still be in its pipes then. */
export function spawnProgram(
  file: string,
  args: readonly string[],
  { stdio, env }: { readonly stdio: StdioOptions; readonly env: ProgramOptions['env'] },
): { readonly child: ProgramStreams; readonly exit: Promise<number> } {
  const child = spawn(file, args, { stdio, env })
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  child.once('error', (error) => {
    reject(toLoamError(error, `run ${file}`))
  })
  child.once('exit', (status, signal) => {
    resolve(signal === null ? (status ?? 0) : 128 + signalNumber(signal))
  })
  return { child, exit: promise }
}

const FORWARDED: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']

/**
 * Runs a program in the foreground: it has our standard streams, and signals that we get are passed to it.
 * Returns its status, 128 and the signal's number when a signal ended it.
 */
export async function runForeground(
  file: string,
  args: readonly string[],
  { stdio = 'inherit', env }: { readonly stdio?: StdioOptions; readonly env: ProgramOptions['env'] },
): Promise<number> {
  const child = spawn(file, args, { stdio, env })
  const forward = (signal: NodeJS.Signals) => {
    child.kill(signal)
  }
  for (const signal of FORWARDED) process.on(signal, forward)
  try {
    const { status, signal } = await exitOf(child)
    return signal === undefined ? status : 128 + signalNumber(signal)
  } catch (error) {
    throw toLoamError(error, `run ${file}`)
  } finally {
    for (const signal of FORWARDED) process.off(signal, forward)
  }
}

function signalNumber(name: NodeJS.Signals): number {
  const numbers: Readonly<Partial<Record<NodeJS.Signals, number>>> = {
    SIGHUP: 1,
    SIGINT: 2,
    SIGQUIT: 3,
    SIGABRT: 6,
    SIGKILL: 9,
    SIGSEGV: 11,
    SIGTERM: 15,
  }
  return numbers[name] ?? 0
}

/** Looks a program up in PATH; undefined if it is not found. */
export function findProgram(name: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, name))
    .find((candidate) => mayExecute(candidate))
}
