import { libc } from './libc.ts'

const RLIMIT_NOFILE = 7

/** Returns the limit of descriptors of this process after it was lowered to at most `most`. @throws system errors */
export function limitDescriptors(most: number): number {
  const limits = Buffer.alloc(16)
  libc().getrlimit(RLIMIT_NOFILE, limits)
  const current = Number(limits.readBigUInt64LE(0))
  const limit = Math.min(current, most)
  if (limit < current) {
    limits.writeBigUInt64LE(BigInt(limit), 0)
    libc().setrlimit(RLIMIT_NOFILE, limits)
  }
  return limit
}
