import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ErrorCode, LoamError } from '../errors/index.ts'
import {
  type Environment,
  findProgram,
  createDirectories,
  plainEnvironment,
  removeTree,
  runForeground,
  runProgram,
  searchPath,
} from '../linux/index.ts'

/** Where the runtime of one state folder keeps what it has. */
export interface RuntimePlace {
  readonly state: string
  /** Name or path of the OCI runtime. */
  readonly runtime: string
  readonly env: Environment
}

export function bundlePath(place: RuntimePlace, id: string): string {
  return join(place.state, 'bundles', runtimeId(id))
}

/** Runtimes know no nesting, and an id is the name of a directory to them. No id of Loam's begins with a dot. */
function runtimeId(id: string): string {
  return id.includes('/') ? `.${createHash('sha256').update(id).digest('hex')}` : id
}

/** Returns the runtime's path. @throws RUNTIME_FAILED when it is not installed */
export function findRuntime(place: RuntimePlace): string {
  const found = place.runtime.includes('/')
    ? place.runtime
    : findProgram(place.runtime, searchPath(place.env))
  if (found !== undefined && existsSync(found)) return found
  throw new LoamError('RUNTIME_FAILED', `run: there is no ${place.runtime}`, {
    hint: 'Install it (apt-get install runc), or name another one by the setting `runtime`.',
  })
}

/**
 * Runs a bundle in the foreground until its process ends, and takes the container away. Returns the process's status.
 * @throws RUNTIME_FAILED, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE when the process could not be started
 */
export async function runBundle(place: RuntimePlace, id: string): Promise<number> {
  const runtime = findRuntime(place)
  const bundle = bundlePath(place, id)
  const log = join(bundle, 'runtime.log')
  createDirectories(runtimeRoot(place))
  const args = [
    '--root',
    runtimeRoot(place),
    '--log',
    log,
    '--log-format',
    'json',
    'run',
    '--bundle',
    bundle,
    runtimeId(id),
  ]
  // The runtime says why on standard error, too; its log says it without the process's own words in between.
  const status = await runForeground(runtime, args, {
    stdio: ['inherit', 'inherit', 'inherit'],
    env: runtimeEnvironment(place),
  })
  const failure = status === 0 ? undefined : readFailure(log)
  if (failure !== undefined) {
    throw new LoamError(
      codeOfFailure(failure),
      `run ${id}: ${place.runtime} could not start the process (${failure})`,
      { hint: hintOfFailure(failure) },
    )
  }
  return status
}

/**
 * runc: `exec: "x": executable file not found in $PATH`, `exec /x: permission denied`; crun: `executable file x not found`, `open
 * executable: …`. Everything else is a failure of the runtime's own.
 */
export function codeOfFailure(message: string): ErrorCode {
  if (!/\bexec: "|\bexec \/|\bexecutable\b/.test(message)) return 'RUNTIME_FAILED'
  return /not found|no such file/i.test(message) ? 'COMMAND_NOT_FOUND' : 'COMMAND_NOT_EXECUTABLE'
}

/** What to write where the runtime or the kernel cannot confine as Loam asks it to. */
function hintOfFailure(message: string): string | undefined {
  if (/seccomp/i.test(message))
    return 'Install a runtime with seccomp, or run without a filter of system calls: --security-opt seccomp=unconfined'
  if (/pids limit|pids\.max/i.test(message)) return 'Run without a limit of processes: --pids-limit -1'
  return undefined
}

/** The runtime logs errors of its own alone; what the process does is none of it. */
function readFailure(log: string): string | undefined {
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

/** Kills and removes a container of the runtime with its bundle; one that is not there is fine. */
export async function removeRuntimeContainer(place: RuntimePlace, id: string): Promise<void> {
  if (existsSync(join(runtimeRoot(place), runtimeId(id)))) {
    await runProgram(findRuntime(place), ['--root', runtimeRoot(place), 'delete', '--force', runtimeId(id)], {
      env: runtimeEnvironment(place),
    })
  }
  removeTree(bundlePath(place, id))
}

/** What a container sees is in its bundle. Runtimes of a user look for that user's folders and bus. */
function runtimeEnvironment({ env }: RuntimePlace): Record<string, string> {
  return plainEnvironment(env, ['XDG_RUNTIME_DIR', 'DBUS_SESSION_BUS_ADDRESS'])
}

function runtimeRoot(place: RuntimePlace): string {
  return join(place.state, 'runtime')
}
