import { formatTarHeader, type TarEntryInput, tarEnd, tarPadding } from '../tar/index.ts'
import { type Entry, type FileTree, type Inode, NONE, ROOT, SortedTree, UP } from '../tree/index.ts'
import { entryTypeOf } from './entry-types.ts'

const WINDOW_BYTES = 1 << 20

export interface TreeTarOptions {
  /** Fills `target` with the bytes at an offset of a layer's tar. */
  readonly readData: (layer: number, offset: number, target: Buffer) => void
  /** Takes the next bytes of the archive; they are changed after it returns. */
  readonly write: (chunk: Buffer) => void
}

/**
 * Writes a merged tree as one tar: a directory comes before its content, names are sorted, and a hard-linked file has its data at
 * its first name. The same tree gives the same bytes. Holes are written as zeros. Memory: 1 MiB.
 */
export function writeTreeTar(tree: FileTree, { readData, write }: TreeTarOptions): void {
  const sorted = new SortedTree(tree, (entry) => tree.entryInode(entry) !== NONE)
  /** The entry that each inode's data were written at. */
  const firsts = new Map<Inode, Entry>()
  write(formatTarHeader({ ...describe(tree, ROOT), name: Buffer.from('./') }))
  const pending: Entry[] = []
  const descend = (directory: Inode) => {
    for (const entry of sorted.entriesOf(directory).toReversed()) if (entry < UP) pending.push(entry)
  }
  descend(ROOT)
  // In depth: tar sets a directory's time when it meets the first name that is not in it.
  for (let entry = pending.pop(); entry !== undefined; entry = pending.pop()) {
    const inode = tree.entryInode(entry)
    const input = { ...describe(tree, inode), name: nameOf(tree, entry) }
    const first = firsts.get(inode)
    if (first !== undefined) {
      write(formatTarHeader({ ...input, type: 'hardlink', linkName: nameOf(tree, first), xattrs: [] }))
      continue
    }
    if (tree.linkCount(inode) > 1) firsts.set(inode, entry)
    write(formatTarHeader(input))
    if (input.type === 'file') writeData(tree, inode, { readData, write })
    else if (input.type === 'directory') descend(inode)
  }
  write(tarEnd())
}

function nameOf(tree: FileTree, entry: Entry): Buffer {
  const isDirectory = tree.isDirectory(tree.entryInode(entry))
  return Buffer.concat([Buffer.from('./'), tree.entryPath(entry), Buffer.from(isDirectory ? '/' : '')])
}

function describe(tree: FileTree, inode: Inode): Omit<TarEntryInput, 'name'> {
  const type = entryTypeOf(tree.type(inode))
  const attributes = tree.attributes(inode)
  const isDevice = type === 'character' || type === 'block'
  const { major, minor } = isDevice ? tree.device(inode) : { major: 0, minor: 0 }
  return {
    ...attributes,
    type,
    mode: attributes.mode & 0o7777,
    linkName: type === 'symlink' ? tree.linkTarget(inode) : Buffer.alloc(0),
    deviceMajor: major,
    deviceMinor: minor,
    xattrs: tree.xattrs(inode),
    sizeBytes: type === 'file' ? tree.fileData(inode).sizeBytes : 0,
  }
}

function writeData(tree: FileTree, inode: Inode, { readData, write }: TreeTarOptions): void {
  const { layer, sizeBytes, offset, segments = Float64Array.of(0, sizeBytes) } = tree.fileData(inode)
  const window = Buffer.alloc(Math.min(WINDOW_BYTES, sizeBytes))
  let position = 0
  let stored = offset
  const zerosTo = (end: number) => {
    while (position < end) {
      const part = window.subarray(0, Math.min(window.length, end - position)).fill(0)
      write(part)
      position += part.length
    }
  }
  for (let index = 0; index + 1 < segments.length; index += 2) {
    zerosTo(segments[index] ?? 0)
    const end = position + (segments[index + 1] ?? 0)
    while (position < end) {
      const part = window.subarray(0, Math.min(window.length, end - position))
      readData(layer, stored, part)
      write(part)
      position += part.length
      stored += part.length
    }
  }
  zerosTo(sizeBytes)
  write(tarPadding(sizeBytes))
}
