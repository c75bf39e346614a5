import { readFileSync, statSync } from 'node:fs'

/**
 * Returns the process that holds a lock on a file (flock(2)), by /proc/locks: of several, the one that holds it exclusively. Undefined if it is not known, for
 * example because the process belongs to another PID namespace. It may have ended meanwhile: only for messages.
 */
export function findLockHolder(path: string): number | undefined {
  try {
    return readHolder(readFileSync('/proc/locks', 'utf8'), statSync(path).ino)
  } catch {
    return undefined
  }
}

/** Reads lines like `1: FLOCK  ADVISORY  WRITE 708 08:01:1234 0 EOF` (proc_locks(5)). Devices differ from those of stat(2) on some file systems. */
export function readHolder(locks: string, inode: number): number | undefined {
  const found = locks.split('\n').flatMap((line) => {
    const [, kind, , access, pid, place] = line.trim().split(/\s+/)
    const isOfFile = kind === 'FLOCK' && place?.split(':')[2] === String(inode)
    return isOfFile ? [{ isExclusive: access === 'WRITE', pid: Number(pid) }] : []
  })
  const holder = found.find(({ isExclusive }) => isExclusive) ?? found[0]
  return holder !== undefined && holder.pid > 0 ? holder.pid : undefined
}
