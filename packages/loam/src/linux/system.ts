import { existsSync, readFileSync, statfsSync } from 'node:fs'
import { endianness, release } from 'node:os'
import { isErrno, LoamError } from '../errors/index.ts'
import { libc } from './libc.ts'

/** Returns the id of this boot: mounts and unsynced data of another boot are gone. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/** Returns whether this process has the rights of root. */
export function isRoot(): boolean {
  return effectiveUser() === 0
}

/** Returns the ID of the user whose rights this process has. */
export function effectiveUser(): number {
  return process.geteuid?.() ?? 0
}

/** Files are opened through the descriptors of this process, and without /proc all of them seem to be missing. @throws UNSUPPORTED_SYSTEM */
export function requireProc(attempted: string): void {
  if (existsSync('/proc/self/fd')) return
  throw new LoamError('UNSUPPORTED_SYSTEM', `${attempted}: /proc is not mounted`, {
    hint: 'Mount it: mount -t proc proc /proc',
  })
}

/** Returns the working directory of this process; '' if it was removed, from which only absolute paths resolve. */
export function ownDirectory(): string {
  try {
    return process.cwd()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return ''
    throw error
  }
}

/** Returns the kernel's version, for messages. */
export function kernelRelease(): string {
  return release()
}

const AMD64_LEVELS: readonly (readonly string[])[] = [
  ['cx16', 'lahf_lm', 'popcnt', 'sse4_1', 'sse4_2', 'ssse3'],
  ['avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'abm', 'movbe'],
  ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'],
]

interface HostPlatform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
}

let knownPlatform: HostPlatform | undefined

/** Returns the platform of this machine, in OCI's terms, with the level of an amd64 processor. */
export function hostPlatform(): HostPlatform {
  knownPlatform ??= detectPlatform()
  return knownPlatform
}

function detectPlatform(): HostPlatform {
  const names: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }
  const architecture =
    process.arch === 'ppc64' && endianness() === 'LE' ? 'ppc64le' : (names[process.arch] ?? process.arch)
  if (architecture !== 'amd64') return { os: 'linux', architecture }
  const flags = readCpuFlags()
  const missing = AMD64_LEVELS.findIndex((level) => !level.every((flag) => flags.has(flag)))
  const level = missing < 0 ? AMD64_LEVELS.length + 1 : missing + 1
  return { os: 'linux', architecture, variant: `v${level}` }
}

function readCpuFlags(): Set<string> {
  try {
    const line = /^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))
    return new Set(line?.[1]?.split(' '))
  } catch {
    // Without /proc the plainest level is a safe guess.
    return new Set()
  }
}

/** Returns the size of a file system and how much of it is in use; space reserved for root counts as free. */
export function fileSystemUsage(path: string): { readonly totalBytes: number; readonly usedBytes: number } {
  const { blocks, bfree, bsize } = statfsSync(path)
  return { totalBytes: blocks * bsize, usedBytes: (blocks - bfree) * bsize }
}

/** Returns how many bytes of a file system every user may still write. */
export function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize
}

const CLOCK_REALTIME = 0

/** Returns the time in microseconds since 1970, as the kernel has it: `Date.now` has milliseconds, and `performance` an offset of its own. */
export function nowMicroseconds(): number {
  const time = Buffer.alloc(16)
  libc().clockGettime(CLOCK_REALTIME, time)
  return Number(time.readBigInt64LE(0)) * 1_000_000 + Math.floor(Number(time.readBigInt64LE(8)) / 1000)
}
