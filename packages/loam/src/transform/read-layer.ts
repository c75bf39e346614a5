import { scanTarFile } from '../content/index.ts'
import { type FileTree, type LayerLimits, type LeftOutXattrs, LayerTreeBuilder } from '../tree/index.ts'

/**
 * Reads the tree of a layer from its tar, and what was left out of it. The cost is linear in entries and independent of the sizes of
 * files. @throws TAR_INVALID, TAR_UNSAFE, LAYER_LIMIT
 */
export function readLayer(
  tarPath: string,
  limits: LayerLimits,
): { readonly tree: FileTree; readonly leftOut: LeftOutXattrs | undefined } {
  const builder = new LayerTreeBuilder(limits)
  scanTarFile(tarPath, (entry) => {
    builder.add(entry)
  })
  return { tree: builder.tree, leftOut: builder.leftOutXattrs }
}
