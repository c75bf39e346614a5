import { lockPath, type StorePaths } from '../content/index.ts'
import { digestOf } from '../image/index.ts'
import { FileLock } from '../linux/index.ts'

/** The turn of a caller to fetch an image of a name. */
export interface NameFlight extends Disposable {
  /** Whether another caller fetched one before. */
  readonly hadToWait: boolean
}

/** Waits until no other caller fetches an image of that name. @throws CANCELED */
export async function waitForFlight(
  paths: StorePaths,
  name: string,
  signal: AbortSignal | undefined,
): Promise<NameFlight> {
  const path = lockPath(paths, 'name', digestOf(Buffer.from(name)))
  const free = FileLock.tryAcquire(path)
  const lock = free ?? (await FileLock.acquire(path, { signal }))
  return {
    hadToWait: free === undefined,
    [Symbol.dispose]: () => {
      lock.release()
    },
  }
}
