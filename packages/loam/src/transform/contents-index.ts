import {
  applyLayer,
  type Entry,
  FileTree,
  formatNameText,
  type Inode,
  type LayerLimits,
  NONE,
  ROOT,
  S_IFREG,
  splitPath,
} from '../tree/index.ts'
import type { LayerFiles } from './layer-files.ts'

/** How many of the largest hidden files are named. */
const MAX_HIDDEN_FILES = 100

/** Reads the tree of one layer. */
export type ReadTree = (layer: LayerFiles, limits: LayerLimits) => FileTree

/** Sizes that one layer of an image adds, and that later layers hide. */
export interface LayerShare {
  /** Data of its files; a hard-linked file counts once, and holes do not. */
  readonly bytes: number
  /** Regular files. */
  readonly files: number
  /** Data of those of its files that no container of the image sees: later layers replace or remove them. */
  readonly hiddenBytes: number
  /** How many files that are. */
  readonly hiddenFiles: number
}

/** A file of a layer that later layers replace or remove. */
export interface HiddenEntry {
  readonly layer: number
  readonly entry: Buffer
  readonly bytes: number
}

/** Sums that are computed once for an image. */
export interface ContentsIndex {
  readonly merged: FileTree
  readonly shares: readonly LayerShare[]
  /** The largest, the largest first. */
  readonly hidden: readonly HiddenEntry[]
}

/**
 * Merges the layers of an image, base first, and sums up the sizes that each of them adds and that are hidden. One layer's tree at a time is in memory,
 * besides the merged one. Linear in the entries of all layers.
 */
export function indexContents(
  layers: readonly LayerFiles[],
  limits: LayerLimits,
  readTree: ReadTree,
): ContentsIndex {
  const merged = new FileTree()
  const totals = layers.map((layer, index) => {
    const tree = readTree(layer, limits)
    applyLayer(merged, tree, index)
    return sumFiles(tree)
  })
  const shown = sumByLayer(merged, layers.length)
  const hidden: HiddenEntry[] = []
  const shares = totals.map(({ bytes, files }, index) => {
    const seen = shown[index] ?? { bytes: 0, files: 0 }
    if (seen.files < files) {
      // The tree is read again only where something is hidden.
      const tree = readTree(layers[index] as LayerFiles, limits)
      addHidden(hidden, { tree, shown: offsetsOf(merged, index), layer: index })
    }
    return {
      bytes,
      files,
      hiddenBytes: Math.max(0, bytes - seen.bytes),
      hiddenFiles: Math.max(0, files - seen.files),
    }
  })
  return { merged, shares, hidden }
}

/** Returns the places of the data of those files of a layer that the merged tree has. */
export function offsetsOf(merged: FileTree, layer: number): ReadonlySet<number> {
  const offsets = new Set<number>()
  for (const inode of regularFiles(merged)) {
    const data = merged.fileData(inode)
    if (data.layer === layer) offsets.add(data.offset)
  }
  return offsets
}

/** Returns the path of an entry as text, with a slash in front. */
export function pathTextOf(tree: FileTree, entry: Entry): string {
  return `/${(splitPath(tree.entryPath(entry)) ?? []).map(formatNameText).join('/')}`
}

/** Returns the data of a file in its tar: holes take nothing. */
export function storedBytes(tree: FileTree, inode: Inode): number {
  if (tree.type(inode) !== S_IFREG) return 0
  const { sizeBytes, segments } = tree.fileData(inode)
  if (segments === undefined) return sizeBytes
  let bytes = 0
  for (let index = 1; index < segments.length; index += 2) bytes += segments[index] ?? 0
  return bytes
}

/** Returns the entry at which each file is counted: the first name of a hard-linked one. */
export function firstEntries(tree: FileTree): Uint32Array {
  const firsts = new Uint32Array(tree.inodeCount).fill(NONE)
  for (let entry = tree.entryCount - 1; entry >= 0; entry -= 1) {
    const inode = tree.entryInode(entry)
    if (inode !== NONE) firsts[inode] = entry
  }
  return firsts
}

function* regularFiles(tree: FileTree): Generator<Inode> {
  for (let inode = ROOT; inode < tree.inodeCount; inode += 1)
    if (tree.type(inode) === S_IFREG && tree.linkCount(inode) > 0) yield inode
}

function sumFiles(tree: FileTree): { bytes: number; files: number } {
  let bytes = 0
  let files = 0
  for (const inode of regularFiles(tree)) {
    bytes += storedBytes(tree, inode)
    files += 1
  }
  return { bytes, files }
}

function sumByLayer(merged: FileTree, count: number): { bytes: number; files: number }[] {
  const sums = Array.from({ length: count }, () => ({ bytes: 0, files: 0 }))
  for (const inode of regularFiles(merged)) {
    const sum = sums[merged.fileData(inode).layer]
    if (sum === undefined) continue
    sum.bytes += storedBytes(merged, inode)
    sum.files += 1
  }
  return sums
}

function addHidden(
  hidden: HiddenEntry[],
  { tree, shown, layer }: { tree: FileTree; shown: ReadonlySet<number>; layer: number },
): void {
  const firsts = firstEntries(tree)
  const found: { entry: Entry; bytes: number }[] = []
  for (const inode of regularFiles(tree)) {
    const bytes = storedBytes(tree, inode)
    const entry = firsts[inode] ?? NONE
    if (bytes > 0 && entry !== NONE && !shown.has(tree.fileData(inode).offset)) found.push({ entry, bytes })
  }
  found.sort((a, b) => b.bytes - a.bytes)
  for (const { entry, bytes } of found.slice(0, MAX_HIDDEN_FILES))
    hidden.push({ layer, entry: tree.entryPath(entry), bytes })
  hidden.sort((a, b) => b.bytes - a.bytes)
  hidden.length = Math.min(hidden.length, MAX_HIDDEN_FILES)
}
