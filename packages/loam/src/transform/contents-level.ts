import {
  type Entry,
  type FileTree,
  formatNameText,
  type Inode,
  NONE,
  parsePathText,
  ROOT,
  S_IFREG,
} from '../tree/index.ts'
import { LoamError } from '../errors/index.ts'
import { firstEntries, storedBytes } from './contents-index.ts'
import { entryTypeOf, type FileType } from './entry-types.ts'

/** How many names of a directory are listed; the smallest are left out. */
const MAX_ENTRIES = 1000

/** A name in a directory of an image or of one of its layers. */
export interface ContentsEntry {
  /** UTF-8, with a backslash doubled and bytes that are not UTF-8 as `\xNN`. */
  readonly name: string
  /** Type of the entry; `whiteout` removes a name of lower layers and has nothing of its own. */
  readonly type: FileType | 'whiteout'
  /** Data of the file, or of all files below the directory. A hard-linked file counts once, and holes do not. */
  readonly bytes: number
  /** Regular files below a directory; 1 for a regular file. */
  readonly files: number
  /** Data that later layers hide; 0 in an image as a whole. */
  readonly hiddenBytes: number
  /** Permission bits. */
  readonly mode: number
  /** Owner. */
  readonly uid: number
  /** Group. */
  readonly gid: number
  /** Time of the last change. */
  readonly mtimeMs: number
  /** Number of the layer that a file's data are in; undefined for everything else. */
  readonly layer: number | undefined
  /** Target of a symlink. */
  readonly target: string | undefined
}

/** One directory of an image, or of one layer. */
export interface ContentsLevel {
  /** The path that was asked for, with a slash in front. */
  readonly path: string
  /** Data of all files below it. */
  readonly bytes: number
  /** Regular files below it. */
  readonly files: number
  /** Data below it that later layers hide; 0 in an image as a whole. */
  readonly hiddenBytes: number
  /** The largest first, then by name. */
  readonly entries: readonly ContentsEntry[]
  /** How many more names there are. */
  readonly leftOut: number
}

/** Sums for each inode of a tree: of a directory, all that is below it. */
export interface TreeSums {
  readonly bytes: Float64Array
  readonly files: Uint32Array
  readonly hiddenBytes: Float64Array
}

/** Adds up a tree from its leaves to its root. Linear in entries. `isHidden` is asked once for each file. */
export function sumTree(tree: FileTree, isHidden: (inode: Inode) => boolean): TreeSums {
  const sums = {
    bytes: new Float64Array(tree.inodeCount),
    files: new Uint32Array(tree.inodeCount),
    hiddenBytes: new Float64Array(tree.inodeCount),
  }
  const firsts = firstEntries(tree)
  const add = (to: Inode, from: Inode) => {
    sums.bytes[to] = (sums.bytes[to] ?? 0) + (sums.bytes[from] ?? 0)
    sums.files[to] = (sums.files[to] ?? 0) + (sums.files[from] ?? 0)
    sums.hiddenBytes[to] = (sums.hiddenBytes[to] ?? 0) + (sums.hiddenBytes[from] ?? 0)
  }
  // Entries come after those of their directories, so that from the last to the first each directory is complete when its own entry is met.
  for (let entry = tree.entryCount - 1; entry >= 0; entry -= 1) {
    const inode = tree.entryInode(entry)
    if (inode === NONE || firsts[inode] !== entry) continue
    if (!tree.isDirectory(inode)) {
      const bytes = storedBytes(tree, inode)
      sums.bytes[inode] = bytes
      sums.files[inode] = tree.type(inode) === S_IFREG ? 1 : 0
      sums.hiddenBytes[inode] = bytes > 0 && isHidden(inode) ? bytes : 0
    }
    add(tree.entryParent(entry), inode)
  }
  return sums
}

/** Lists one directory. `layer` is the number of the layer whose tree this is; undefined for the merged one. @throws PATH_NOT_FOUND, USAGE */
export function listLevel(
  tree: FileTree,
  sums: TreeSums,
  { path, layer }: { readonly path: string; readonly layer: number | undefined },
): ContentsLevel {
  const names = parsePathText(path)
  const directory = findDirectory(tree, names, path)
  const entries = [...tree.allChildren(directory)].map((entry) => describe(tree, sums, { entry, layer }))
  entries.sort((a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1))
  return {
    path: `/${names.map(formatNameText).join('/')}`,
    bytes: sums.bytes[directory] ?? 0,
    files: sums.files[directory] ?? 0,
    hiddenBytes: sums.hiddenBytes[directory] ?? 0,
    entries: entries.slice(0, MAX_ENTRIES),
    leftOut: Math.max(0, entries.length - MAX_ENTRIES),
  }
}

function findDirectory(tree: FileTree, names: readonly Buffer[], path: string): Inode {
  let inode = ROOT
  for (const name of names) {
    inode = tree.isDirectory(inode) ? tree.find(inode, name) : NONE
    if (inode === NONE) break
  }
  if (inode !== NONE && tree.isDirectory(inode)) return inode
  throw new LoamError(
    'PATH_NOT_FOUND',
    `list ${JSON.stringify(path)}: there is no such directory in the image`,
  )
}

function describe(
  tree: FileTree,
  sums: TreeSums,
  { entry, layer }: { readonly entry: Entry; readonly layer: number | undefined },
): ContentsEntry {
  const inode = tree.entryInode(entry)
  const name = formatNameText(tree.entryName(entry))
  if (inode === NONE) return { ...WHITEOUT, name }
  const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = tree.attributes(inode)
  const type = entryTypeOf(tree.type(inode))
  return {
    name,
    type,
    bytes: sums.bytes[inode] ?? 0,
    files: sums.files[inode] ?? 0,
    hiddenBytes: sums.hiddenBytes[inode] ?? 0,
    mode: mode & 0o7777,
    uid,
    gid,
    mtimeMs: mtimeSeconds * 1000 + Math.floor(mtimeNanoseconds / 1e6),
    layer: type === 'file' ? (layer ?? tree.fileData(inode).layer) : undefined,
    target: type === 'symlink' ? formatNameText(tree.linkTarget(inode)) : undefined,
  }
}

const WHITEOUT = {
  type: 'whiteout',
  bytes: 0,
  files: 0,
  hiddenBytes: 0,
  mode: 0,
  uid: 0,
  gid: 0,
  mtimeMs: 0,
  layer: undefined,
  target: undefined,
} as const
