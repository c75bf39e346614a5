import { createHash } from 'node:crypto'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type ErrorCode, LoamError } from '../errors/index.ts'
import {
  type Environment,
  FileLock,
  findProgram,
  createDirectories,
  plainEnvironment,
  removeTree,
  runForeground,
  runProgram,
  searchPath,
} from '../linux/index.ts'

import { waitForMonitor } from './monitor-files.ts'
import type { ProgramStart, RunStarter, StartedContainer } from './requests.ts'

/** The directory of the runtime's state, in one state directory of Loam. */
export interface RuntimePaths {
  readonly state: string
  /** Name or path of the OCI runtime. */
  readonly runtime: string
  readonly env: Environment
}

export function bundlePath(paths: RuntimePaths, id: string): string {
  return join(paths.state, 'bundles', runtimeId(id))
}

/** Runtimes do not support nested containers, and use an ID as the name of a directory. No ID of Loam begins with a dot. */
export function runtimeId(id: string): string {
  return id.includes('/') ? `.${createHash('sha256').update(id).digest('hex')}` : id
}

/** Returns the runtime's path. @throws RUNTIME_FAILED if it is not installed */
export function findRuntime(paths: RuntimePaths): string {
  const found = paths.runtime.includes('/')
    ? paths.runtime
    : findProgram(paths.runtime, searchPath(paths.env))
  if (found !== undefined && existsSync(found)) return found
  throw new LoamError('RUNTIME_FAILED', `find the OCI runtime: there is no ${paths.runtime}`, {
    hint: 'Install it (apt-get install runc), or name another one by the setting `runtime`.',
  })
}

/**
 * Runs a bundle in the foreground until its process ends. Returns the process's exit status; undefined if its starter was killed.
 * @throws RUNTIME_FAILED, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE when the process could not be started
 */
export async function runBundle(
  paths: RuntimePaths,
  { id, keep }: Omit<StartedContainer, 'pidFile'>,
  start: RunStarter['start'] = async ({ file, args, env }) => runForeground(file, args, { env }),
): Promise<number | undefined> {
  const pidFile = join(bundlePath(paths, id), 'started.pid')
  rmSync(pidFile, { force: true })
  const program = runtimeProgram(paths, id, ['--pid-file', pidFile])
  const status = await start(program, { id, keep, pidFile })
  const failure = await findStartFailure(paths, { id, pidFile, log: runtimeLog(paths, id), status })
  if (failure !== undefined) throw startFailed(paths, id, failure)
  return status
}

/** What a runtime has left when it ended. */
interface EndedRuntime {
  readonly id: string
  readonly pidFile: string
  readonly log: string
  /** Undefined: its starter was killed. */
  readonly status: number | undefined
}

/**
 * Returns why a runtime that has ended did not start the process; undefined if it did. runc writes the file with the process's number once the process runs;
 * crun shortly before, and logs an error if it then does not run.
 */
export async function findStartFailure(
  paths: RuntimePaths,
  { id, pidFile, log, status }: EndedRuntime,
): Promise<string | undefined> {
  if (status === undefined) return undefined
  const logged = status === 0 ? undefined : readFailure(log)
  if (logged !== undefined || existsSync(pidFile)) return logged
  // Whoever destroys a running container holds the lock until its bundle is gone, with the file.
  using _lock = await lockProcess(paths, id, undefined)
  if (!existsSync(bundlePath(paths, id))) return undefined
  return readFailure(log) ?? `it ended with status ${status}`
}

/** Returns the error for a process that the runtime could not start. */
export function startFailed({ runtime }: RuntimePaths, id: string, failure: string): LoamError {
  return new LoamError(
    codeOfFailure(failure),
    `run ${id}: ${runtime} could not start the process (${failure})`,
    { hint: hintOfFailure(failure) },
  )
}

/** The runtime reports its errors on standard error, too; its log has them without the process's own output in between. */
function runtimeLog(paths: RuntimePaths, id: string): string {
  return join(bundlePath(paths, id), 'runtime.log')
}

/** Returns the program that runs a container's bundle; `options` are those of the runtime's `run`. */
export function runtimeProgram(
  paths: RuntimePaths,
  id: string,
  options: readonly string[] = [],
): ProgramStart {
  createDirectories(runtimeRoot(paths))
  const log = ['--log', runtimeLog(paths, id), '--log-format', 'json']
  return runtimeCall(paths, [...log, 'run', ...options, '--bundle', bundlePath(paths, id), runtimeId(id)])
}

/** Returns the call of the runtime with the state of this store. */
export function runtimeCall(paths: RuntimePaths, args: readonly string[]): ProgramStart {
  return {
    file: findRuntime(paths),
    args: ['--root', runtimeRoot(paths), ...args],
    env: runtimeEnvironment(paths),
  }
}

/** Returns whether the runtime knows a container: its process runs, or was killed with its starter. */
export function isKnownToRuntime(paths: RuntimePaths, id: string): boolean {
  return existsSync(join(runtimeRoot(paths), runtimeId(id)))
}

/**
 * runc: `exec: "x": executable file not found in $PATH`, `exec /x: permission denied`; crun: `executable file x not found`, `open
 * executable: …`. Everything else is a failure of the runtime's own.
 */
export function codeOfFailure(message: string): ErrorCode {
  if (!/\bexec: "|\bexec \/|\bexecutable\b/.test(message)) return 'RUNTIME_FAILED'
  return /not found|no such file/i.test(message) ? 'COMMAND_NOT_FOUND' : 'COMMAND_NOT_EXECUTABLE'
}

/** Hints for a runtime or a kernel that does not support the requested confinement. */
function hintOfFailure(message: string): string | undefined {
  if (/seccomp/i.test(message))
    return 'Install a runtime with seccomp, or disable the system call filter: --security-opt seccomp=unconfined'
  if (/pids limit|pids\.max/i.test(message)) return 'Disable the process limit: --pids-limit -1'
  return undefined
}

/** The runtime logs only its own errors, and no errors of the process. */
export function readFailure(log: string): string | undefined {
  if (!existsSync(log)) return undefined
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    if (!line.includes('"level":"error"')) continue
    try {
      const { msg } = JSON.parse(line) as { msg?: unknown }
      if (typeof msg === 'string') return msg
    } catch {
      return line
    }
  }
  return undefined
}

/** Returns the message of a runtime's error: runc writes `time="…" level=error msg="…"`, crun `TIME: MESSAGE`. */
export function messageOfRuntime(stderr: string): string {
  const text = stderr.trim()
  const quoted = /\bmsg=("(?:[^"\\]|\\.)*")/.exec(text)?.[1]
  if (quoted === undefined) return text.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z?: /, '')
  return quoted.slice(1, -1).replaceAll(/\\(["\\])/g, '$1')
}

/** Returns whether a runtime has written the state of a container: runc's `state.json`, crun's `status`. */
export function hasRuntimeState(paths: RuntimePaths, id: string): boolean {
  return ['state.json', 'status'].some((name) => existsSync(join(runtimeRoot(paths), runtimeId(id), name)))
}

/**
 * Kills and removes a container of the runtime with its bundle. A container that does not exist is not an error. Waits while it is being started.
 * @throws CANCELED while it waits
 */
export async function removeRuntimeContainer(
  paths: RuntimePaths,
  id: string,
  signal?: AbortSignal,
): Promise<void> {
  if (!existsSync(bundlePath(paths, id)) && !isKnownToRuntime(paths, id)) return
  using lock = await lockProcess(paths, id, signal)
  await killRuntimeContainer(paths, id)
  await waitForMonitor(bundlePath(paths, id))
  await removeTree(bundlePath(paths, id))
  lock.remove()
}

/** Kills a container of the runtime, and removes what the runtime knows of it. A container that does not exist is not an error. */
export async function killRuntimeContainer(paths: RuntimePaths, id: string): Promise<void> {
  if (!isKnownToRuntime(paths, id)) return
  const { file, args, env } = runtimeCall(paths, ['delete', '--force', runtimeId(id)])
  await runProgram(file, args, { env })
}

/**
 * Locks the process of a container: whoever starts it in the background holds the lock from the look at its state until it runs, and whoever removes its
 * bundle until the bundle is gone. No other lock is taken while it is held. @throws CANCELED
 */
export async function lockProcess(
  paths: RuntimePaths,
  id: string,
  signal: AbortSignal | undefined,
): Promise<FileLock> {
  const directory = join(paths.state, 'starts')
  createDirectories(directory)
  return FileLock.acquire(join(directory, runtimeId(id)), { signal })
}

/** Environment of the runtime itself: a container's is in its bundle. Runtimes of a user look for that user's directories and bus. */
function runtimeEnvironment({ env }: RuntimePaths): Record<string, string> {
  return plainEnvironment(env, ['XDG_RUNTIME_DIR', 'DBUS_SESSION_BUS_ADDRESS'])
}

function runtimeRoot(paths: RuntimePaths): string {
  return join(paths.state, 'runtime')
}
