import {
  lockPath,
  type StorePaths,
  StoreReserve,
  sweepPartials,
  sweepRetained,
  sweepUnfinished,
  upgradeStoreFiles,
} from '../content/index.ts'
import { isLoamError } from '../errors/index.ts'
import { MetadataStore } from './metadata-store.ts'

/** Opens the database of a store, also on a full disk: SQLite needs space to open it, even if nothing is written. @throws as `MetadataStore.open` */
export async function openMetadata(
  paths: StorePaths,
  signal: AbortSignal | undefined,
): Promise<MetadataStore> {
  const reserve = new StoreReserve(paths)
  const options = {
    lockFile: lockPath(paths, 'metadata', 'open'),
    upgradeFiles: (version: number) => {
      upgradeStoreFiles(paths, version)
    },
    signal,
  }
  const open = async () => MetadataStore.open(paths.database, options)
  try {
    return await reserve.freeLater(open)
  } catch (error) {
    if (!isLoamError(error, 'NO_SPACE')) throw error
    // Partial blobs, and unfinished work of killed processes, can be removed without the database.
    const keptBytes = (await sweepPartials(paths)) + (await sweepRetained(paths))
    const isFreed = keptBytes > 0 || (await sweepUnfinished(paths)).swept.length > 0
    if (!isFreed) throw error
    return await open()
  } finally {
    // The reserve takes the space that SQLite has not needed.
    reserve.fill()
  }
}
