import { libc } from './libc.ts'

/** linux/prctl.h */
const PR_SET_DUMPABLE = 4

/**
 * Protects the memory of this process, which contains passwords and tokens, from others: the kernel writes no core dump of it, to any collector,
 * and other processes of its user may not attach to it or read its environment in /proc (prctl(2), ptrace(2)). SIGUSR1 opens no debugger,
 * which is a port that all users can connect to. Child programs are not affected. For programs, before they read
 * anything secret; not for a library in another program. Root can still read everything, and swap may contain it.
 */
export function protectMemory(): void {
  process.on('SIGUSR1', () => undefined)
  libc().prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
}
