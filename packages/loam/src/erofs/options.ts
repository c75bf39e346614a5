import type { ErofsDevice } from './format.ts'

/** The kind and content of an image. */
export interface ErofsOptions {
  /**
   * `tar`: 512-byte blocks, and file data stay where they are in the layers' tars, which become devices.
   * `disk`: 4 KiB blocks with all data inside, small ones beside their inodes: a disk by itself.
   * `blocks`: as `disk`, with the data of files in blocks alone, so that other images can refer to them.
   */
  readonly data: 'tar' | 'disk' | 'blocks'
  /** By the layer numbers of the tree. The same tag twice is one device; a tag without data for the tree gets no device. */
  readonly layers: readonly ErofsDevice[]
  /**
   * `merged`: the tree as containers see it. `layer`: one layer with its whiteouts and its other effects on layers below,
   * from which `readLayerImage` rebuilds the same tree.
   */
  readonly contents: 'merged' | 'layer'
  /** UUID of an image with all data inside; undefined for none. That of an image over tars follows from its content. */
  readonly uuid?: Buffer | undefined
  /** Fills `target` with the bytes at an offset of a layer's tar. */
  readonly readData: (layer: number, offset: number, target: Buffer) => void
  /** Takes the next bytes of the image; they are changed after it returns. */
  readonly write: (chunk: Buffer) => void
}
