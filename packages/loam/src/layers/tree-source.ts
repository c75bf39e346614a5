import type { DiffId } from '../image/index.ts'
import type { LayerTar } from '../transform/index.ts'

/** Where a tree is: in layers of the store, base first, or in files that were made of a folder. */
export type TreeSource = { readonly layers: readonly DiffId[] } | GatheredTree

/** What `gatherFolder` has made of a folder: the data of its files, and an index of its tree over them. */
export interface GatheredTree {
  readonly dataPath: string
  readonly metaPath: string
}

/** What is not the store's has no digest there. */
const NO_DIGEST = `sha256:${'0'.repeat(64)}` as DiffId

export function gatheredFiles({ dataPath }: GatheredTree): LayerTar {
  return { diffId: NO_DIGEST, tarPath: dataPath }
}
