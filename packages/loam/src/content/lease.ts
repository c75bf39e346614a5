import { LoamError } from '../errors/index.ts'
import { FileLock } from '../linux/index.ts'
import type { SingleFlight } from './single-flight.ts'

const MAX_ROUNDS = 5

export interface LeaseOptions {
  readonly signal?: AbortSignal | undefined
  /** Called when another process or caller is making the same thing. */
  readonly onWait?: () => void
  /** Those of this process who want such things: what one of them makes goes on when that one leaves. Undefined: each for itself. */
  readonly flights?: SingleFlight
}

/**
 * Returns a lease on something that many want and one must make: a shared lock, under which `isThere` held. While
 * it is held, nobody removes the thing, since a remover takes the lock exclusively. When it is not there, one
 * caller makes it under the exclusive lock, and the others wait for that.
 * No deadlock: who holds such a lock exclusively waits for none but those behind it in the order of ARCHITECTURE.md, and who
 * waits to hold one exclusively stops waiting when the thing is there, so that leases may be gathered in any order.
 */
export async function leaseOrMake(
  lockFile: string,
  isThere: () => boolean,
  make: (signal: AbortSignal | undefined) => Promise<void>,
  options: LeaseOptions = {},
): Promise<FileLock> {
  // A remover may be faster than we are, but not again and again.
  for (let made = 0; made < MAX_ROUNDS; ) {
    const free = FileLock.tryAcquire(lockFile, { shared: true })
    // Whoever holds it while the thing is there is about to let go, or about to remove it.
    const lease =
      free ?? (isThere() ? await FileLock.acquire(lockFile, { ...options, shared: true }) : undefined)
    if (lease !== undefined && isThere()) return lease
    lease?.release()
    const work = async (signal: AbortSignal | undefined) =>
      makeOnce(lockFile, isThere, make, { ...options, signal })
    if (options.flights === undefined) await work(options.signal)
    if ((await options.flights?.join(lockFile, options.signal, work)) ?? true) made += 1
  }
  throw new LoamError('STORE_BUSY', `lease ${lockFile}: the artifact disappeared repeatedly`)
}

async function makeOnce(
  lockFile: string,
  isThere: () => boolean,
  make: (signal: AbortSignal | undefined) => Promise<void>,
  options: LeaseOptions,
): Promise<void> {
  // Whoever has made it meanwhile may keep a shared lease on it for as long as it likes, and may itself be waiting
  // for something that our caller has leased: nobody waits for the right to make what is there already.
  using lock = await FileLock.acquireUnless(lockFile, isThere, options)
  if (lock !== undefined && !isThere()) await make(options.signal)
}
