import { closeSync, readFileSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { libc } from './libc.ts'

/** A process, and when it started: the number alone may come to belong to another one. */
export interface ProcessIdentity {
  readonly pid: number
  /** In ticks since the boot. */
  readonly startTime: number
}

/** Returns when a process was started, in ticks since the boot (proc_pid_stat(5), field 22); undefined if it has ended. */
export function findStartTime(pid: number): number | undefined {
  const fields = readState(pid)
  return fields === undefined || fields[0] === 'Z' ? undefined : Number(fields[19])
}

/** Returns whether a process has a thread that runs or waits. The first thread of a process may end before the others. */
export function isAlive(pid: number): boolean {
  const fields = readState(pid)
  return fields !== undefined && (fields[0] !== 'Z' || Number(fields[17]) > 1)
}

/** Returns the fields of a process from its state on (proc_pid_stat(5), field 3); undefined if it has ended and was waited for. */
function readState(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name of the program, in parentheses, may contain anything.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined
    throw error
  }
}

/**
 * Copies descriptors of another process into this one (pidfd_getfd(2)), in their order; undefined if the process has ended. The caller closes
 * them. @throws system errors: EBADF when it has no such descriptor, EPERM
 */
export function takeDescriptors(
  { pid, startTime }: ProcessIdentity,
  fds: readonly number[],
): number[] | undefined {
  const pidFd = openProcess(pid)
  if (pidFd === undefined) return undefined
  const taken: number[] = []
  try {
    // After the open the number cannot change its owner any more.
    if (findStartTime(pid) !== startTime) return undefined
    for (const fd of fds) taken.push(libc().pidfdGetfd(pidFd, fd, 0))
    return taken
  } catch (error) {
    for (const fd of taken) closeSync(fd)
    if (isErrno(error, 'ESRCH')) return undefined
    throw error
  } finally {
    closeSync(pidFd)
  }
}

function openProcess(pid: number): number | undefined {
  try {
    return libc().pidfdOpen(pid, 0)
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return undefined
    throw error
  }
}
