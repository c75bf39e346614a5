import { readFile } from 'node:fs/promises'
import { PassThrough, pipeline, Readable, Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { isErrno, isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import {
  boundingCapabilities,
  findStartTime,
  type ProcessIdentity,
  type ProgramStreams,
  spawnProgram,
} from '../linux/index.ts'
import { capabilitiesOf } from '../runtime/index.ts'
import type { ExecOptions, RunImageOptions, RunStarter } from './requests.ts'

const POLL_MS = 5

/** What a standard stream of a process is: a stream of the handle, nothing, or that of this process. */
export type SpawnedStream = 'pipe' | 'ignore' | 'inherit'

/** The standard streams of a process. */
export interface SpawnedStreams {
  /** Undefined: `pipe`. */
  readonly stdin?: SpawnedStream | undefined
  /** Undefined: `pipe`. */
  readonly stdout?: SpawnedStream | undefined
  /** Undefined: `pipe`. */
  readonly stderr?: SpawnedStream | undefined
  /** Ends the process by SIGKILL, also while it runs, unless it has a user whom this process may not signal. */
  readonly signal?: AbortSignal | undefined
}

/** How to start a process in a new root filesystem. */
export interface SpawnImageOptions
  extends SpawnedStreams,
    Omit<
      RunImageOptions,
      'starter' | 'detach' | 'remove' | 'keepsInput' | 'terminal' | 'terminalSize' | 'onStart' | 'signal'
    > {}

/** How to start a further process in a running container. */
export interface SpawnExecOptions
  extends SpawnedStreams,
    Omit<ExecOptions, 'starter' | 'terminal' | 'terminalSize' | 'detach' | 'onStart'> {}

/**
 * A process that runs in a container. Read its output, or pass `ignore`: a process waits while a pipe is full. `await using` ends it at the end of the
 * block.
 */
export interface SpawnedProcess extends AsyncDisposable {
  /** Id of its container. */
  readonly containerId: string
  /** Its number on this machine. */
  readonly pid: number
  /** Its standard input; what is written is discarded unless it is a pipe. */
  readonly stdin: Writable
  /** Its standard output; empty unless it is a pipe. */
  readonly stdout: Readable
  /** Its standard error; empty unless it is a pipe. */
  readonly stderr: Readable
  /** Sends a signal, SIGTERM by default. Returns false if the process has ended. */
  readonly kill: (signal?: NodeJS.Signals) => boolean
  /**
   * Waits until the process has ended, and what was made for it is removed. Returns its exit status: 128 and the signal's number if a signal ended it.
   * @throws the errors of the removal
   */
  readonly wait: () => Promise<number>
}

/** Runs a process by a function that takes its starter, and returns when it runs. @throws the errors of the function */
export async function spawnProcess(
  { stdin = 'pipe', stdout = 'pipe', stderr = 'pipe', signal }: SpawnedStreams,
  run: (starter: RunStarter) => Promise<number>,
): Promise<SpawnedProcess> {
  const started = Promise.withResolvers<SpawnedProcess>()
  const ended = run({
    capabilities: capabilitiesOf(boundingCapabilities()),
    start: async ({ file, args, env }, { id, pidFile }) => {
      const { child, exit } = spawnProgram(file, args, { env, stdio: [stdin, stdout, stderr] })
      // Before anything is waited for: the runtime may end before its process is found.
      const streams = streamsOf(child)
      const isOver = exit.then(() => undefined).catch(() => undefined)
      const process = await waitForStart(pidFile, isOver)
      if (process === undefined) return exit
      started.resolve(createHandle(id, process, streams, async () => ended))
      const onAbort = () => {
        tryKill(process)
        for (const each of [streams.stdout, streams.stderr]) if (!isRead(each)) each.resume()
      }
      signal?.addEventListener('abort', onAbort)
      if (signal?.aborted === true) onAbort()
      try {
        return await exit
      } finally {
        signal?.removeEventListener('abort', onAbort)
      }
    },
  })
  void settle(ended, started)
  return started.promise
}

/** Tells the caller that waits for the start that there is none. A process that has started before is not affected. */
async function settle(
  ended: Promise<number>,
  { reject }: Pick<PromiseWithResolvers<SpawnedProcess>, 'reject'>,
): Promise<void> {
  try {
    await ended
    reject(new LoamError('RUNTIME_FAILED', 'start a process: the runtime ended without it'))
  } catch (error) {
    reject(error)
  }
}

function createHandle(
  containerId: string,
  { pid, startTime }: ProcessIdentity,
  streams: Pick<SpawnedProcess, 'stdin' | 'stdout' | 'stderr'>,
  wait: () => Promise<number>,
): SpawnedProcess {
  const send = (signal: NodeJS.Signals = 'SIGTERM') => kill({ pid, startTime }, signal)
  return {
    containerId,
    pid,
    ...streams,
    wait,
    kill: send,
    [Symbol.asyncDispose]: async () => {
      send('SIGKILL')
      // Whoever copies its output would wait for a reader.
      for (const each of [streams.stdout, streams.stderr]) each.resume()
      await wait()
    },
  }
}

/** Returns whether somebody reads a stream, or has begun to. */
function isRead(stream: Readable): boolean {
  return stream.readableFlowing !== null || stream.listenerCount('readable') > 0
}

function streamsOf(child: ProgramStreams): Pick<SpawnedProcess, 'stdin' | 'stdout' | 'stderr'> {
  const stdin = child.stdin ?? discarding()
  // A process that has ended does not read.
  stdin.on('error', () => undefined)
  return { stdin, stdout: readableOf(child.stdout), stderr: readableOf(child.stderr) }
}

/** Node discards what nobody has begun to read when a child ends; the copy keeps it, and has the errors of the stream. */
function readableOf(stream: Readable | null): Readable {
  return stream === null ? Readable.from([]) : pipeline(stream, new PassThrough(), () => undefined)
}

function discarding(): Writable {
  return new Writable({
    write: (_chunk, _encoding, done) => {
      done()
    },
  })
}

/** Returns the process once the runtime has started it; undefined if the runtime has ended before. */
async function waitForStart(pidFile: string, over: Promise<undefined>): Promise<ProcessIdentity | undefined> {
  let isOver = false
  void over.then(() => (isOver = true))
  for (;;) {
    const wasOver = isOver
    const pid = Number(await readFile(pidFile, 'utf8').catch(() => ''))
    // The process may have ended since: then no other one gets its signals.
    if (pid > 0) return { pid, startTime: findStartTime(pid) ?? 0 }
    if (wasOver) return undefined
    await sleep(POLL_MS)
  }
}

/** For a listener, whose errors would end this program: a process that has another user by now, and may not be signaled, goes on. */
function tryKill(identity: ProcessIdentity): void {
  try {
    kill(identity, 'SIGKILL')
  } catch (error) {
    if (!isLoamError(error)) throw error
  }
}

function kill({ pid, startTime }: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (findStartTime(pid) !== startTime) return false
  try {
    return process.kill(pid, signal)
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return false
    throw toLoamError(error, `send ${signal} to process ${pid}`)
  }
}
