import { type FileTree, formatNameText, type LayerLimits, splitPath } from '../tree/index.ts'
import { LoamError } from '../errors/index.ts'
import {
  type ContentsIndex,
  indexContents,
  type LayerShare,
  offsetsOf,
  type ReadTree,
} from './contents-index.ts'
import { type ContentsLevel, listLevel, sumTree, type TreeSums } from './contents-level.ts'
import { type LayerFiles, treeKey } from './layer-files.ts'

/** Time for which the sums of an image are kept for the next directory. */
const KEEP_MS = 30_000
/** Some 30 MiB; a larger image is added up for each directory. */
const MAX_KEPT_ENTRIES = 300_000

/** A file of a layer that later layers replace or remove. */
export interface HiddenFile {
  /** Number of the layer that has it. */
  readonly layer: number
  /** Its path in the layer, with a slash in front. */
  readonly path: string
  /** Its data. */
  readonly bytes: number
}

/** One directory of an image or of one of its layers, and the sizes that its layers add and hide. */
export interface TreeContents {
  readonly level: ContentsLevel
  /** By the number of the layer, base first. */
  readonly layers: readonly LayerShare[]
  /** The largest files that later layers hide, the largest first. */
  readonly hidden: readonly HiddenFile[]
}

/** Which directory is asked for. */
export interface ContentsRequest {
  readonly layers: readonly LayerFiles[]
  readonly limits: LayerLimits
  /** Number of the layer to look into; undefined for the image as containers see it. */
  readonly layer: number | undefined
  readonly path: string
}

interface Kept {
  readonly key: string
  readonly index: ContentsIndex
  readonly hidden: readonly HiddenFile[]
  /** Of the image, or of the layer that was looked into last. */
  view: { readonly layer: number | undefined; readonly tree: FileTree; readonly sums: TreeSums } | undefined
}

/** Lists the content of images. The sums of the last image are kept for a while, since a caller lists one directory after the other. */
export class ContentsReader {
  readonly #readTree: ReadTree
  #kept: Kept | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(readTree: ReadTree) {
    this.#readTree = readTree
  }

  /** Lists one directory. `check` is called before each layer is read, and throws when the work is to stop. @throws PATH_NOT_FOUND, USAGE, and the errors of layers */
  read(request: ContentsRequest, check: () => void): TreeContents {
    const readTree: ReadTree = (layer, limits) => {
      check()
      return this.#readTree(layer, limits)
    }
    const kept = this.#indexOf(request, readTree)
    const { tree, sums } = this.#viewOf(kept, request, readTree)
    const entries = kept.index.merged.entryCount + (tree === kept.index.merged ? 0 : tree.entryCount)
    if (entries <= MAX_KEPT_ENTRIES) this.#keep(kept)
    return {
      level: listLevel(tree, sums, request),
      layers: kept.index.shares,
      hidden: kept.hidden,
    }
  }

  #indexOf({ layers, limits }: ContentsRequest, readTree: ReadTree): Kept {
    const key = layers.map(treeKey).join()
    if (this.#kept?.key === key) return this.#kept
    this.#kept = undefined
    const index = indexContents(layers, limits, readTree)
    const hidden = index.hidden.map(({ layer, entry, bytes }) => ({
      layer,
      bytes,
      path: `/${(splitPath(entry) ?? []).map(formatNameText).join('/')}`,
    }))
    return { key, index, hidden, view: undefined }
  }

  #viewOf(
    kept: Kept,
    { layers, layer, limits }: ContentsRequest,
    readTree: ReadTree,
  ): NonNullable<Kept['view']> {
    if (kept.view?.layer === layer && kept.view !== undefined) return kept.view
    const { merged } = kept.index
    if (layer === undefined) {
      kept.view = { layer, tree: merged, sums: sumTree(merged, () => false) }
      return kept.view
    }
    const files = layers[layer]
    if (files === undefined) {
      throw new LoamError(
        'USAGE',
        `look into layer ${layer}: the image has ${layers.length} layers, the first is 0`,
      )
    }
    const tree = readTree(files, limits)
    const shown = offsetsOf(merged, layer)
    kept.view = { layer, tree, sums: sumTree(tree, (inode) => !shown.has(tree.fileData(inode).offset)) }
    return kept.view
  }

  #keep(kept: Kept): void {
    this.#kept = kept
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#kept = undefined
    }, KEEP_MS).unref()
  }
}
