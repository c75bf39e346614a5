import type { DiffId } from '../image/index.ts'
import type { LayerTar } from '../transform/index.ts'

/** The source of a tree: layers of the store, base first, or files that were written from a folder. */
export type TreeSource = { readonly layers: readonly DiffId[] } | GatheredTree

/** A folder that `gatherFolder` has read: the data of its files, and a metadata image of its tree over them. */
export interface GatheredTree {
  readonly dataPath: string
  readonly metaPath: string
}

/** A file outside the store has no digest. */
const NO_DIGEST = `sha256:${'0'.repeat(64)}` as DiffId

export function gatheredFiles({ dataPath }: GatheredTree): LayerTar {
  return { diffId: NO_DIGEST, tarPath: dataPath }
}
