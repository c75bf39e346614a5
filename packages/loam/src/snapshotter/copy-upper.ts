import type { IngestArea } from '../content/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { removeTree } from '../linux/index.ts'
import type { PackReport } from '../transform/index.ts'

/** The parts that a copy needs. */
export interface CopyParts {
  readonly layers: LayerStore
  readonly ingest: () => IngestArea
}

/**
 * Copies an upper folder of overlayfs into an empty folder, in the form of overlayfs. A container may write to it: no name of it is part of a path.
 * Reports everything that is not in the copy.
 */
export async function copyUpper(
  { layers, ingest }: CopyParts,
  { from, to }: { readonly from: string; readonly to: string },
  signal: AbortSignal | undefined,
): Promise<PackReport> {
  const made = { dataPath: ingest().newPath('upper.data'), metaPath: ingest().newPath('upper.erofs') }
  try {
    const report = await layers.trees.gatherFolder(from, made, { as: 'overlay', signal })
    await layers.trees.exportTo(to, 'upper', made, { signal })
    return report
  } finally {
    await removeTree(made.dataPath)
    await removeTree(made.metaPath)
  }
}
