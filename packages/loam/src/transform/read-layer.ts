import { closeSync, readSync } from 'node:fs'
import { openRegular } from '../linux/index.ts'
import { type TarEntry, TarReader } from '../tar/index.ts'
import { type FileTree, type LayerLimits, type LeftOutXattrs, LayerTreeBuilder } from '../tree/index.ts'

const WINDOW_BYTES = 64 << 10

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

/** Reads the headers of a tar file; data are passed over by seeking. `sources/tar-scan.ts` is the same for the main thread. @throws TAR_INVALID, LAYER_LIMIT, and what `onEntry` throws */
function scanTarFile(tarPath: string, onEntry: (entry: TarEntry) => void): void {
  const reader = new TarReader(onEntry)
  const fd = openRegular(tarPath)
  try {
    const window = Buffer.alloc(WINDOW_BYTES)
    let position = 0
    for (;;) {
      const length = readSync(fd, window, 0, WINDOW_BYTES, position)
      if (length === 0) break
      reader.write(window.subarray(0, length))
      position += length
      if (reader.skippableBytes === Number.POSITIVE_INFINITY) break
      // Reading on is cheaper than seeking over less than a window.
      if (reader.skippableBytes > WINDOW_BYTES) {
        const skipped = reader.skippableBytes
        position += skipped
        reader.skip(skipped)
      }
    }
    reader.end()
  } finally {
    closeSync(fd)
  }
}
