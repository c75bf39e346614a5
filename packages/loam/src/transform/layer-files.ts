import type { DiffId, Digest } from '../image/index.ts'

/** Location of a layer's data. */
export interface LayerTar {
  readonly diffId: DiffId
  readonly tarPath: string
  /** Size of the tar, if it is not there yet. */
  readonly tarBytes?: number
}

/**
 * Returns the digest that a tree in memory is known by. A tree that is verified has that of its layer. One of a lazy index has that of the index: the tar
 * alone proves what an index says of its layer, so it never stands for the layer of another index.
 */
export function treeKey({ diffId, indexDigest }: LayerFiles): Digest {
  return indexDigest ?? diffId
}

/** A layer's files on disk. */
export interface LayerFiles extends LayerTar {
  /** Its index, to read the tree from; undefined to read the tar. */
  readonly metaPath: string | undefined
  /** Digest of the lazy index that its tree comes from; undefined if its tar has been verified. */
  readonly indexDigest?: Digest | undefined
  /** Its files in a folder, to clone them from where the file system can; undefined to read the tar. */
  readonly clonePath: string | undefined
}
