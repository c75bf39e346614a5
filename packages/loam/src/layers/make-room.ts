import { type StorePaths, type StoreReserve, sweepPartials, sweepRetained } from '../content/index.ts'
import { isLoamError, toLoamError } from '../errors/index.ts'
import type { LayerStore } from './layer-store.ts'

/** Returns whether an operation failed because the disk is full. */
export function isFull(error: unknown): boolean {
  return isLoamError(toLoamError(error, 'bring in a layer'), 'NO_SPACE')
}

/** Removes what a full disk has no room for and nothing needs: received parts of blobs, retained blobs, and layers that no image and no snapshot uses. */
export async function makeRoom({
  paths,
  layers,
  reserve,
}: {
  readonly paths: StorePaths
  readonly layers: LayerStore
  readonly reserve: StoreReserve
}): Promise<void> {
  await sweepPartials(paths)
  await sweepRetained(paths)
  await reserve.freeLater(async () => {
    await layers.prune()
    await layers.settle()
  })
}
