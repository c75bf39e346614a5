import { libc } from './libc.ts'

/** linux/prctl.h */
const PR_SET_DUMPABLE = 4

/**
 * Keeps the memory of this process, where passwords and tokens are, from others: the kernel writes no core dump of it, whatever takes those,
 * and other processes of its user may not attach to it or read its environment in /proc (prctl(2), ptrace(2)). SIGUSR1 opens no debugger,
 * which is a port that all users can connect to. Programs that are started from here are as they were. For programs, before they read
 * anything secret; not for a library in somebody else's. Root may still read everything, and so may what is written to a swap.
 */
export function protectMemory(): void {
  process.on('SIGUSR1', () => undefined)
  libc().prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
}
