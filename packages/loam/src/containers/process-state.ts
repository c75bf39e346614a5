import { existsSync } from 'node:fs'
import { basename } from 'node:path'
import { isErrno, isLoamError, LoamError } from '../errors/index.ts'
import { parseStrictJson } from '../image/index.ts'
import { runProgram } from '../linux/index.ts'
import { readProcessOf } from './bundle-config.ts'
import { isMonitorAtWork, readMonitor } from './monitor-files.ts'
import {
  bundlePath,
  hasRuntimeState,
  isKnownToRuntime,
  messageOfRuntime,
  runtimeCall,
  runtimeId,
  type RuntimePaths,
} from './oci-runtime.ts'

/** What `ContainerProcess.status` can be. */
export const PROCESS_STATUSES = ['created', 'running', 'paused', 'exited', 'none', 'unknown'] as const

/** The process of a container. */
export interface ContainerProcess {
  /** ID of the container. */
  readonly id: string
  /**
   * `created`: it is being started; `running`, `paused`; `exited`: it has ended; `none`: the container was created without a process, or
   * its process ran in the foreground and has ended; `unknown`, in lists only: the OCI runtime does not say.
   */
  readonly status: (typeof PROCESS_STATUSES)[number]
  /** Process ID on this machine; undefined if it does not run, and of a detached process that has ended while its output is still being written. */
  readonly pid: number | undefined
  /** Exit status; undefined if it has not ended, or if the status is not known. */
  readonly exitStatus: number | undefined
  /** Whether it runs in the background. */
  readonly isDetached: boolean
  /** Program and arguments; undefined for a container that was created without a process, or whose process ran in the foreground and has ended. */
  readonly command: readonly string[] | undefined
}

const STATUSES: readonly string[] = ['created', 'running', 'paused']

/** Reads the state of a container's process. Asks the runtime only if it knows the container. */
export async function readProcess(paths: RuntimePaths, id: string): Promise<ContainerProcess> {
  return { ...(await readState(paths, id)), command: commandOf(bundlePath(paths, id)) }
}

type ProcessState = Omit<ContainerProcess, 'command'>

async function readState(paths: RuntimePaths, id: string): Promise<ProcessState> {
  const bundle = bundlePath(paths, id)
  const monitor = readMonitor(bundle)
  const isDetached = monitor !== undefined
  const ended = (exitStatus?: number): ProcessState => ({
    ...{ id, pid: undefined, exitStatus, isDetached },
    status: isDetached || exitStatus !== undefined ? 'exited' : 'none',
  })
  if (monitor?.exitStatus !== undefined) return ended(monitor.exitStatus)
  const state = isKnownToRuntime(paths, id) ? await askRuntime(paths, id) : undefined
  if (state !== undefined) return { id, ...state, exitStatus: undefined, isDetached }
  // It may have ended meanwhile, or its monitor is about to start the runtime.
  const now = readMonitor(bundle)
  // Its output is not complete yet, and its status not known.
  if (now?.pid !== undefined && now.exitStatus === undefined && isMonitorAtWork(bundle))
    return { ...ended(), status: 'running' }
  if (now === undefined || now.exitStatus !== undefined || now.pid !== undefined)
    return ended(now?.exitStatus)
  return { ...ended(), status: existsSync(bundle) ? 'created' : 'none' }
}

/** Reads the state of a process as `readProcess`, for a list: that of a container without a readable state is `unknown`. */
export async function readListedProcess(paths: RuntimePaths, id: string): Promise<ContainerProcess> {
  try {
    return await readProcess(paths, id)
  } catch (error) {
    if (!isLoamError(error, 'RUNTIME_FAILED')) throw error
    const bundle = bundlePath(paths, id)
    const isDetached = readMonitor(bundle) !== undefined
    const command = commandOf(bundle)
    return { id, status: 'unknown', pid: undefined, exitStatus: undefined, isDetached, command }
  }
}

/** Undefined without a bundle, which may be written or removed meanwhile. */
function commandOf(bundle: string): readonly string[] | undefined {
  try {
    return readProcessOf(bundle, basename(bundle)).args
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isLoamError(error)) return undefined
    throw error
  }
}

/** Returns undefined for a process that has ended. @throws RUNTIME_FAILED */
async function askRuntime(
  paths: RuntimePaths,
  id: string,
): Promise<Pick<ContainerProcess, 'status' | 'pid'> | undefined> {
  const { file, args, env } = runtimeCall(paths, ['state', runtimeId(id)])
  const { status: exit, stdout, stderr } = await runProgram(file, args, { env })
  // The container may be gone by now.
  if (exit !== 0 && !isKnownToRuntime(paths, id)) return undefined
  if (exit !== 0) {
    const why = messageOfRuntime(stderr)
    // Its runtime was killed before it started anything. What another runtime has started would have a file of that one.
    if (/does not exist|no such file/i.test(why) && !hasRuntimeState(paths, id)) return undefined
    throw new LoamError('RUNTIME_FAILED', `read the state of ${id}: ${paths.runtime}: ${why}`, {
      hint: 'Another setting `runtime` may have started it; `loam rm --force` removes it.',
    })
  }
  const { status, pid } = parseState(stdout)
  if (!STATUSES.includes(status)) return undefined
  return { status: status as ContainerProcess['status'], pid }
}

function parseState(text: string): { readonly status: string; readonly pid: number | undefined } {
  try {
    const state = parseStrictJson(Buffer.from(text), 'state')
    if (typeof state === 'object' && state !== null && 'status' in state && 'pid' in state) {
      const { status, pid } = state
      return { status: String(status), pid: typeof pid === 'number' && pid > 0 ? pid : undefined }
    }
  } catch (error) {
    if (!isLoamError(error)) throw error
  }
  return { status: 'unknown', pid: undefined }
}
