import { closeSync, readSync } from 'node:fs'
import { openRegular } from '../linux/index.ts'
import { type TarEntry, TarReader, TarScan } from '../tar/index.ts'
import { type FileTree, type LayerLimits, type LeftOutXattrs, LayerTreeBuilder } from '../tree/index.ts'

/**
 * Reads the tree of a layer from its tar, and the xattrs that were left out. The cost is linear in entries and independent of the sizes of
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

/** Reads the headers of a tar file, and seeks over data. `sources/tar-scan.ts` is the same for the main thread. @throws TAR_INVALID, LAYER_LIMIT, and the errors of `onEntry` */
export function scanTarFile(tarPath: string, onEntry: (entry: TarEntry) => void): void {
  const scan = new TarScan(new TarReader(onEntry))
  const fd = openRegular(tarPath, 'LAYER_DAMAGED')
  try {
    const { window } = scan
    while (scan.take(readSync(fd, window, 0, window.length, scan.position)));
  } finally {
    closeSync(fd)
  }
}
