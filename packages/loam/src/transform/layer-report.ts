import { applyLayer, FileTree, type Inode, type LayerLimits, NONE, ROOT, S_IFREG } from '../tree/index.ts'
import {
  firstEntries,
  type LayerShare,
  offsetsOf,
  pathTextOf,
  type ReadTree,
  storedBytes,
} from './contents-index.ts'
import type { LayerFiles } from './layer-files.ts'

/** What one layer of an image does to the layers below it, and which of its files are the largest. */
export interface LayerReport extends LayerShare {
  /** Names of files that no layer below has. Directories are not counted, here and below. */
  readonly addedFiles: number
  /** Names of files that replace one of a layer below. */
  readonly replacedFiles: number
  /** Names of files of layers below that it removes: by whiteouts, opaque directories, or a file in the place of a directory. */
  readonly removedFiles: number
  /** Data of layers below that it replaces or removes. A hard-linked file does not count: another name may show it. */
  readonly hidesBytes: number
  /** Its largest files, the largest first. */
  readonly largest: readonly LargeFile[]
}

/** A large file of a layer. */
export interface LargeFile {
  /** Its path, with a slash in front. */
  readonly path: string
  /** Its data. */
  readonly bytes: number
  /** Whether a later layer replaces or removes it. */
  readonly isHidden: boolean
}

/** What the layers of an image do. */
export interface TreeReport {
  /** Base first. */
  readonly layers: readonly LayerReport[]
  /** Data of the files that containers see. */
  readonly bytes: number
  /** Regular files that containers see. */
  readonly files: number
}

/** Which files to report. */
export interface ReportRequest {
  readonly layers: readonly LayerFiles[]
  readonly limits: LayerLimits
  /** How many of the largest files of each layer. */
  readonly largest: number
}

type Effect = Pick<LayerReport, 'addedFiles' | 'replacedFiles' | 'removedFiles' | 'hidesBytes'>

/** Reports the layers of an image, base first. Linear in the entries of all layers; one layer's tree at a time is in memory, besides the merged one. */
export function reportLayers({ layers, limits, largest }: ReportRequest, readTree: ReadTree): TreeReport {
  const merged = new FileTree()
  const effects = layers.map((layer, index) => {
    const tree = readTree(layer, limits)
    const effect = effectOf(merged, tree)
    applyLayer(merged, tree, index)
    return effect
  })
  const reports = layers.map((layer, index) => {
    const effect = effects[index] ?? NO_EFFECT
    return { ...effect, ...shareOf(readTree(layer, limits), offsetsOf(merged, index), largest) }
  })
  const shown = sumFiles(merged, [...filesOf(merged)])
  return { layers: reports, bytes: shown.bytes, files: shown.files }
}

const NO_EFFECT: Effect = { addedFiles: 0, replacedFiles: 0, removedFiles: 0, hidesBytes: 0 }

/** Compares the names of a layer with the merged tree of the layers below it. */
function effectOf(merged: FileTree, layer: FileTree): Effect {
  const effect = { ...NO_EFFECT }
  /** The merged tree's directory for each of the layer's; NONE where there is none, or where an opaque one hides it. */
  const below = new Uint32Array(layer.inodeCount).fill(NONE)
  below[ROOT] = ROOT
  const remove = (inode: Inode) => {
    const hidden = inode === NONE ? { names: 0, bytes: 0 } : countBelow(merged, inode)
    effect.removedFiles += hidden.names
    effect.hidesBytes += hidden.bytes
  }
  const removeChildren = (directory: Inode) => {
    for (const child of merged.children(directory)) remove(merged.entryInode(child))
  }
  if (layer.isOpaque(ROOT)) {
    removeChildren(ROOT)
    below[ROOT] = NONE
  }
  for (let entry = 0; entry < layer.entryCount; entry += 1) {
    const inode = layer.entryInode(entry)
    if (inode === NONE && !layer.isWhiteout(entry)) continue
    const parent = below[layer.entryParent(entry)] ?? NONE
    const found = parent === NONE ? NONE : merged.find(parent, layer.entryName(entry))
    if (inode === NONE) remove(found)
    else if (!layer.isDirectory(inode)) {
      const isReplaced = found !== NONE && !merged.isDirectory(found)
      effect.addedFiles += isReplaced ? 0 : 1
      effect.replacedFiles += isReplaced ? 1 : 0
      if (isReplaced) effect.hidesBytes += countBelow(merged, found).bytes
      else remove(found)
    } else if (layer.isWhiteout(entry) || found === NONE || !merged.isDirectory(found)) remove(found)
    else if (layer.isOpaque(inode)) removeChildren(found)
    else below[inode] = found
  }
  return effect
}

/** Counts the names of files below an inode, or the file itself, and their data. */
function countBelow(merged: FileTree, inode: Inode): { names: number; bytes: number } {
  let names = 0
  let bytes = 0
  const pending = [inode]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (merged.isDirectory(next)) {
      for (const child of merged.children(next)) pending.push(merged.entryInode(child))
      continue
    }
    names += 1
    if (merged.linkCount(next) === 1) bytes += storedBytes(merged, next)
  }
  return { names, bytes }
}

function shareOf(
  tree: FileTree,
  shown: ReadonlySet<number>,
  count: number,
): LayerShare & Pick<LayerReport, 'largest'> {
  const all = [...filesOf(tree)]
  const isHidden = (inode: Inode) => !shown.has(tree.fileData(inode).offset)
  const hidden = sumFiles(tree, all.filter(isHidden))
  const firsts = firstEntries(tree)
  const sorted = all
    .map((inode) => ({ inode, bytes: storedBytes(tree, inode) }))
    .toSorted((a, b) => b.bytes - a.bytes)
  return {
    ...sumFiles(tree, all),
    hiddenBytes: hidden.bytes,
    hiddenFiles: hidden.files,
    largest: sorted.slice(0, count).map(({ inode, bytes }) => ({
      path: pathTextOf(tree, firsts[inode] ?? NONE),
      bytes,
      isHidden: isHidden(inode),
    })),
  }
}

function* filesOf(tree: FileTree): Generator<Inode> {
  for (let inode = ROOT; inode < tree.inodeCount; inode += 1)
    if (tree.type(inode) === S_IFREG && tree.linkCount(inode) > 0) yield inode
}

function sumFiles(tree: FileTree, files: readonly Inode[]): { bytes: number; files: number } {
  return { bytes: files.reduce((sum, inode) => sum + storedBytes(tree, inode), 0), files: files.length }
}
