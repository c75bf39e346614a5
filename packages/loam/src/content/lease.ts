import { LoamError } from '../errors/index.ts'
import { FileLock } from '../linux/index.ts'
import type { SingleFlight } from './single-flight.ts'

const MAX_ROUNDS = 5

export interface LeaseOptions {
  readonly signal?: AbortSignal | undefined
  /** Called when another process or caller is building the same thing, with the process, if it is known. */
  readonly onWait?: (holderPid: number | undefined) => void
  /** Shares the work among callers of this process: it continues if the caller that began it leaves. Undefined: each caller works for itself. */
  readonly flights?: SingleFlight
}

/**
 * Returns a lease on an object that many callers want and one must build: a shared lock, under which `isThere` held. While it is held, the
 * object cannot be removed, since a remover takes the lock exclusively. If the object does not exist, one caller builds it under the exclusive lock, and the
 * others wait for that. No deadlock: the holder of such an exclusive lock waits only for locks behind it in the order of ARCHITECTURE.md, and a
 * process that waits for an exclusive lock stops waiting when the thing exists, so that leases may be gathered in any order.
 */
export async function leaseOrMake(
  lockFile: string,
  isThere: () => boolean,
  make: (signal: AbortSignal | undefined) => Promise<void>,
  options: LeaseOptions = {},
): Promise<FileLock> {
  // A remover may be faster than this caller, but not again and again.
  for (let made = 0; made < MAX_ROUNDS; ) {
    const free = FileLock.tryAcquire(lockFile, { shared: true })
    // A process that holds it exclusively while the thing exists is about to release it, or about to remove the thing.
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
  // The process that has built it meanwhile may keep a shared lease on it for any time, and may itself be waiting for an object that this caller has
  // leased: so do not wait for the exclusive lock if the object exists already.
  using lock = await FileLock.acquireUnless(lockFile, isThere, options)
  if (lock !== undefined && !isThere()) await make(options.signal)
}
