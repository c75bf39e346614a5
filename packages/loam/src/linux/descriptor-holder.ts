/*
 * A process that does nothing but keep descriptors, so that they outlive the process that uses them: `sleep`, with 0.1 MB of its own. A
 * later process takes them with pidfd_getfd(2).
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { isErrno, toLoamError } from '../errors/index.ts'
import { findStartTime, type ProcessIdentity, takeDescriptors } from './pidfd.ts'

/** Longest time that sleep(1) takes everywhere: 68 years. */
const SECONDS = '2147483647'
const FIRST_FD = 3
const MARKER = 'LOAM_HOLDER'
/** Never chosen when the kernel is out of memory (proc_pid_oom_score_adj(5)). */
const NEVER_KILLED = '-1000'

/**
 * Starts a holder of descriptors in a session of its own, where the signals of a terminal do not reach it. It outlives this process.
 * @throws PROGRAM_FAILED, system errors
 */
export async function holdDescriptors(
  fds: readonly number[],
  options: { readonly path: string; readonly marker: string },
): Promise<ProcessIdentity> {
  const child = spawn('sleep', [SECONDS], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', ...fds],
    env: { PATH: options.path, [MARKER]: options.marker },
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  child.once('spawn', resolve)
  child.once('error', reject)
  try {
    await promise
  } catch (error) {
    throw toLoamError(error, 'start sleep, which keeps the descriptors')
  }
  child.unref()
  const { pid = 0 } = child
  protectFromOom(pid)
  return { pid, startTime: findStartTime(pid) ?? 0 }
}

/** Returns copies of the first `count` descriptors of a holder, in their order; undefined if it has ended. The caller closes them. @throws system errors */
export function takeHeld(holder: ProcessIdentity, count: number): number[] | undefined {
  return takeDescriptors(
    holder,
    Array.from({ length: count }, (_, index) => FIRST_FD + index),
  )
}

/** Returns whether a holder runs. */
export function isHolding({ pid, startTime }: ProcessIdentity): boolean {
  return findStartTime(pid) === startTime
}

/** Ends a holder; one that has ended is not an error. */
export function endHolder({ pid, startTime }: ProcessIdentity): void {
  if (findStartTime(pid) !== startTime) return
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error
  }
}

/** Finds the holders with a marker that run. */
export function findHolders(marker: string): ProcessIdentity[] {
  const wanted = `${MARKER}=${marker}`
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || !readWords(name, 'cmdline').includes(SECONDS)) return []
    if (!readWords(name, 'environ').includes(wanted)) return []
    const startTime = findStartTime(Number(name))
    return startTime === undefined ? [] : [{ pid: Number(name), startTime }]
  })
}

function readWords(pid: string, file: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1').split('\0')
  } catch {
    // It has ended, or belongs to another user.
    return []
  }
}

/** Keeps a process from being killed when memory is short. Without the right to do so it stays as it is. */
export function protectFromOom(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, NEVER_KILLED)
  } catch (error) {
    if (!isErrno(error, 'EACCES', 'EPERM', 'ENOENT')) throw error
  }
}
