import { faultOfFile } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import { sizeOf } from './file-state.ts'
import { hashFile, type LayerWorkers } from './worker-pool.ts'

/** Returns whether the file of a lazy index has this digest; one that is missing or cannot be read has not. */
export async function hasIndex(
  workers: LayerWorkers,
  path: string,
  digest: Digest,
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    return sizeOf(path) !== undefined && (await hashFile(workers, path, { signal })) === digest
  } catch (error) {
    if (faultOfFile(error) === undefined) throw error
    return false
  }
}
