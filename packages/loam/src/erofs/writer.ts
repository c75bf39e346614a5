import type { FileTree } from '../tree/index.ts'
import { ImageEmitter } from './emitter.ts'
import type { ErofsDevice } from './format.ts'
import { ImageLayout } from './layout.ts'

/** What an image is to be. */
export interface ErofsOptions {
  /**
   * `tar`: 512-byte blocks, and file data stay where they are in the layers' tars, which become devices.
   * `disk`: 4 KiB blocks with all data inside, small ones beside their inodes: a disk by itself.
   */
  readonly data: 'tar' | 'disk'
  /** By the layer numbers of the tree. The same tag twice is one device; one without data for the tree is none. */
  readonly layers: readonly ErofsDevice[]
  /**
   * `merged`: the tree as it is to be seen. `layer`: one layer with its whiteouts and what else it asks of those below,
   * from which `readLayerImage` makes the same tree again.
   */
  readonly form: 'merged' | 'layer'
  /** Fills `target` with the bytes at an offset of a layer's tar. */
  readonly readData: (layer: number, offset: number, target: Buffer) => void
  /** Takes the next bytes of the image; they are changed after it returns. */
  readonly write: (chunk: Buffer) => void
}

/** What was written. */
export interface ErofsImageSize {
  readonly sizeBytes: number
  readonly inodes: number
}

/**
 * Writes a tree as an EROFS image from front to back. The same tree gives the same bytes. Memory: some 30 bytes an inode and
 * entry, and 1 MiB. Linear in entries, and with `data: 'tar'` independent of the sizes of files, but for stretches of sparse
 * files that lie on no block of their tar: those are copied. @throws EROFS_INVALID for what EROFS cannot express
 */
export function writeErofs(tree: FileTree, options: ErofsOptions): ErofsImageSize {
  const layout = new ImageLayout(tree, options)
  new ImageEmitter(layout, options).run()
  return { sizeBytes: layout.sizeBytes, inodes: layout.inodes.length }
}
