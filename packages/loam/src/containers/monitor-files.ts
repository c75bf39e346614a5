/*
 * What the monitor of a detached process leaves in its bundle. The monitor is a shell in a session of its own, which starts the OCI
 * runtime, waits for it, and writes the process's exit status:
 *
 *   monitor       written before the monitor starts: `keep`, or `remove` for a container that is removed with its process
 *   began         written by the monitor as soon as it runs: its own process ID
 *   process.pid   written by the runtime when the process runs
 *   exit.new      the exit status before that: what is left of it when the monitor was killed alone
 *   exit          written by the monitor when the process has ended and its output is in the log: its exit status
 *   stdin         pipe that nothing is written to, for a process whose standard input stays open
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isErrno } from '../errors/index.ts'

const POLL_MS = 10
/** The monitor writes its last file as soon as the process has ended. */
const MAX_WAIT_MS = 2000

/** The names of the files. */
export const MONITOR_FILES = {
  ...{ mark: 'monitor', began: 'began', pid: 'process.pid' },
  ...{ newExit: 'exit.new', exit: 'exit', stdin: 'stdin' },
} as const

/** The state of a detached process, by the files in its bundle. */
export interface MonitorState {
  /** Whether the container is removed with its process. */
  readonly removes: boolean
  /** The first process of the container, as seen on this machine. Undefined: it has not started. */
  readonly pid: number | undefined
  /** Undefined: it has not ended, or its monitor was killed. */
  readonly exitStatus: number | undefined
}

/** Reads the files of a bundle; undefined if it has no monitor. */
export function readMonitor(bundle: string): MonitorState | undefined {
  const mark = read(join(bundle, MONITOR_FILES.mark))
  if (mark === undefined) return undefined
  // The status is written after the process ID: a process that has ended had started.
  const isLeft = isMonitorGone(bundle)
  const written = numberIn(join(bundle, MONITOR_FILES.exit))
  const exitStatus = written ?? (isLeft ? numberIn(join(bundle, MONITOR_FILES.newExit)) : undefined)
  return { removes: mark === 'remove', pid: numberIn(join(bundle, MONITOR_FILES.pid)), exitStatus }
}

/** Returns whether the monitor of a bundle runs: then the process runs, or its output is being written. */
export function isMonitorAtWork(bundle: string): boolean {
  const pid = numberIn(join(bundle, MONITOR_FILES.began))
  if (pid === undefined || existsSync(join(bundle, MONITOR_FILES.exit))) return false
  return isMonitor(pid, bundle)
}

/** Returns whether a container was to be removed by its monitor, which has ended or was killed before that. The process may still run. */
export function isLeftByMonitor(bundle: string): boolean {
  return readMonitor(bundle)?.removes === true && isMonitorGone(bundle)
}

/** Returns whether the monitor of a bundle has begun, and does not run any more: it has ended or was killed. */
export function isMonitorGone(bundle: string): boolean {
  const pid = numberIn(join(bundle, MONITOR_FILES.began))
  return pid !== undefined && !isMonitor(pid, bundle)
}

function isMonitor(pid: number, bundle: string): boolean {
  // The number may be another process's by now.
  return read(`/proc/${pid}/cmdline`)?.split('\0').includes(bundle) === true
}

/** Waits for the last file of a monitor whose process was killed, so that nothing appears in a bundle that is being removed. */
export async function waitForMonitor(bundle: string): Promise<void> {
  const end = performance.now() + MAX_WAIT_MS
  const isAtWork = () =>
    !isMonitorGone(bundle) &&
    existsSync(join(bundle, MONITOR_FILES.mark)) &&
    !existsSync(join(bundle, MONITOR_FILES.exit))
  while (isAtWork() && performance.now() < end) await sleep(POLL_MS)
}

function numberIn(path: string): number | undefined {
  const text = read(path)
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ESRCH')) return undefined
    throw error
  }
}
