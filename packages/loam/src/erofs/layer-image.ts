import {
  FileTree,
  type Inode,
  type InodeAttributes,
  ROOT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_LOWER_LINK,
} from '../tree/index.ts'
import { invalid } from './format.ts'
import { type ReadMarks, readMarks } from './layer-marks.ts'
import { ErofsImage, type ErofsInode, type ReadAt } from './reader.ts'

const MAX_READ_FACTOR = 16
const MIN_READ_BYTES = 1 << 20

/**
 * Reads the tree of a layer from its image of `writeErofs` with `contents: 'layer'`. Whiteouts, opaque
 * directories and attributes of lower layers are restored. Linear in entries. @throws EROFS_INVALID
 */
export function readLayerImage(readAt: ReadAt, sizeBytes: number): FileTree {
  // A hostile image may use the same parts again and again; a real one uses each once or a few times.
  let budget = MAX_READ_FACTOR * sizeBytes + MIN_READ_BYTES
  const readWithin: ReadAt = (position, length) => {
    budget -= length
    if (budget < 0) throw invalid('its parts overlap')
    return readAt(position, length)
  }
  return new LayerImageReader(new ErofsImage(readWithin, sizeBytes)).run()
}

class LayerImageReader {
  readonly #image: ErofsImage
  readonly #tree = new FileTree()
  /** The tree's inode of each nid that has been met. */
  readonly #inodes = new Map<number, Inode>()

  constructor(image: ErofsImage) {
    this.#image = image
  }

  run(): FileTree {
    const tree = this.#tree
    const root = this.#image.root()
    const marks = readMarks(this.#image.xattrs(root))
    tree.setAttributes(ROOT, attributesOf(root))
    tree.setXattrs(ROOT, marks.xattrs)
    tree.setInherited(ROOT, marks.marks.includes('implicit'))
    if (marks.isOpaque) tree.markOpaque(ROOT)
    this.#inodes.set(root.nid, ROOT)
    const pending: { inode: ErofsInode; directory: Inode }[] = [{ inode: root, directory: ROOT }]
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const below: typeof pending = []
      for (const { name, nid } of this.#image.entries(next.inode)) {
        const found = this.#add(next.directory, name, nid)
        if (found !== undefined) below.push(found)
      }
      // In the order in which the image was written, so that it is read forward.
      pending.push(...below.toReversed())
    }
    return tree
  }

  /** Adds a name; returns its directory when it is a new one. */
  #add(parent: Inode, name: Buffer, nid: number): { inode: ErofsInode; directory: Inode } | undefined {
    const tree = this.#tree
    const known = this.#inodes.get(nid)
    if (known !== undefined) {
      if (tree.isDirectory(known)) throw invalid(`directory ${nid} has two names`)
      tree.setEntry(parent, name, known)
      return undefined
    }
    const inode = this.#image.inode(nid)
    const marks = readMarks(this.#image.xattrs(inode))
    if (isWhiteout(this.#image, inode, marks)) {
      tree.markWhiteout(parent, name)
      return undefined
    }
    const copy = this.#create(parent, inode, marks)
    this.#inodes.set(nid, copy)
    tree.setXattrs(copy, marks.xattrs)
    tree.setEntry(parent, name, copy)
    if (!this.#image.isDirectory(inode)) return undefined
    if (marks.marks.includes('whiteout')) tree.markWhiteout(parent, name)
    tree.setInherited(copy, marks.marks.includes('implicit'))
    if (marks.isOpaque) tree.markOpaque(copy)
    return { inode, directory: copy }
  }

  #create(parent: Inode, inode: ErofsInode, marks: ReadMarks): Inode {
    const tree = this.#tree
    const attributes = attributesOf(inode)
    switch (inode.mode & S_IFMT) {
      case S_IFDIR:
        return tree.createDirectory(parent, attributes)
      case S_IFREG:
        return tree.createFile(attributes, {
          layer: 0,
          sizeBytes: inode.sizeBytes,
          ...this.#placeOf(inode, marks),
        })
      case S_IFLNK: {
        const target = this.#image.linkTarget(inode)
        const mode = marks.marks.includes('link') ? S_LOWER_LINK | (inode.mode & ~S_IFMT) : inode.mode
        return tree.createLink({ ...attributes, mode }, target)
      }
      case S_IFCHR:
      case S_IFBLK: {
        const { major, minor } = this.#image.device(inode)
        return tree.createSpecial(attributes, major, minor)
      }
      case S_IFIFO:
        return tree.createSpecial(attributes, 0, 0)
      default:
        throw invalid(`inode ${inode.nid} has the mode ${inode.mode.toString(8)}`)
    }
  }

  #placeOf(inode: ErofsInode, marks: ReadMarks): { offset: number; segments: Float64Array | undefined } {
    if (marks.data !== undefined) return marks.data
    let first: number | undefined
    for (const { start, device, position } of this.#image.extents(inode)) {
      first ??= position
      if (device !== 1 || position !== first + start)
        throw invalid(`the data of inode ${inode.nid} are in pieces`)
    }
    return { offset: first ?? 0, segments: undefined }
  }
}

function isWhiteout(image: ErofsImage, inode: ErofsInode, marks: ReadMarks): boolean {
  if ((inode.mode & S_IFMT) !== S_IFCHR || marks.marks.includes('device')) return false
  const { major, minor } = image.device(inode)
  return major === 0 && minor === 0
}

function attributesOf(inode: ErofsInode): InodeAttributes {
  const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = inode
  return { mode, uid, gid, mtimeSeconds, mtimeNanoseconds }
}
