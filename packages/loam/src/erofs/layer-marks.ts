/*
 * What the tree of one layer has and a file system has not, kept in xattrs of the layer's own image: attributes that are a lower
 * layer's, links into lower layers, opaque directories, real devices 0:0 beside whiteouts, and where the data of sparse files lie.
 */
import {
  type Entry,
  type FileData,
  type FileTree,
  type Inode,
  NONE,
  ROOT,
  S_IFCHR,
  S_LOWER_LINK,
  type Xattr,
} from '../tree/index.ts'
import { invalid, MAX_XATTR_VALUE_BYTES } from './format.ts'

const MARK_NAME = Buffer.from('trusted.loam.layer')
const DATA_PREFIX = 'trusted.loam.data.'
const OPAQUE: Xattr = { name: Buffer.from('trusted.overlay.opaque'), value: Buffer.from('y') }

/** Marks an image's xattr may hold, one letter each. */
export type LayerMark = 'implicit' | 'link' | 'device'

const NUMBER_BYTES = 8
const DATA_PART_BYTES = Math.floor(MAX_XATTR_VALUE_BYTES / NUMBER_BYTES) * NUMBER_BYTES

/** Tells whether a name under a directory is hidden and made again in the same layer: then the directory is opaque. */
function isReplaced(tree: FileTree, inode: Inode): boolean {
  const entry: Entry = inode === ROOT ? NONE : tree.entryOfDirectory(inode)
  return entry !== NONE && tree.isWhiteout(entry)
}

/** Returns the xattrs that say what an inode of a layer is. */
export function marksOf(tree: FileTree, inode: Inode): Xattr[] {
  const marks: Xattr[] = []
  const type = tree.type(inode)
  if (tree.isDirectory(inode)) {
    const replaced = isReplaced(tree, inode)
    if (replaced || tree.isOpaque(inode)) marks.push(OPAQUE)
    if (tree.isBorrowed(inode) && !replaced) marks.push(mark('implicit'))
  } else if (type === S_LOWER_LINK) marks.push(mark('link'))
  else if (type === S_IFCHR) {
    const { major, minor } = tree.device(inode)
    if (major === 0 && minor === 0) marks.push(mark('device'))
  } else {
    const data = tree.fileData(inode)
    if (data.segments !== undefined) marks.push(...encodeData(data))
  }
  return marks
}

function mark(name: LayerMark): Xattr {
  return { name: MARK_NAME, value: Buffer.from(name) }
}

function encodeData({ offset, segments = new Float64Array() }: FileData): Xattr[] {
  const bytes = Buffer.alloc((1 + segments.length) * NUMBER_BYTES)
  for (const [index, number] of [offset, ...segments].entries()) {
    bytes.writeBigUInt64LE(BigInt(number), index * NUMBER_BYTES)
  }
  return Array.from({ length: Math.ceil(bytes.length / DATA_PART_BYTES) }, (_none, part) => ({
    name: Buffer.from(`${DATA_PREFIX}${part}`),
    value: bytes.subarray(part * DATA_PART_BYTES, (part + 1) * DATA_PART_BYTES),
  }))
}

/** What marks said of an inode. */
export interface ReadMarks {
  readonly mark: LayerMark | undefined
  readonly isOpaque: boolean
  /** Where a sparse file's data are: offset in the tar, and stretches. */
  readonly data: { readonly offset: number; readonly segments: Float64Array } | undefined
  /** The xattrs that are the file's own. */
  readonly xattrs: readonly Xattr[]
}

/** Takes the marks out of an inode's xattrs. @throws EROFS_INVALID */
export function readMarks(all: readonly Xattr[]): ReadMarks {
  let found: LayerMark | undefined
  let isOpaque = false
  const parts: Buffer[] = []
  const xattrs: Xattr[] = []
  for (const xattr of all) {
    const name = xattr.name.toString('latin1')
    if (xattr.name.equals(MARK_NAME)) found = parseMark(xattr.value.toString('latin1'))
    else if (xattr.name.equals(OPAQUE.name)) isOpaque = true
    else if (name.startsWith(DATA_PREFIX)) parts[Number(name.slice(DATA_PREFIX.length))] = xattr.value
    else xattrs.push(xattr)
  }
  return { mark: found, isOpaque, data: parts.length === 0 ? undefined : decodeData(parts), xattrs }
}

function parseMark(text: string): LayerMark {
  if (text === 'implicit' || text === 'link' || text === 'device') return text
  throw invalid(`a mark ${JSON.stringify(text.slice(0, 20))}`)
}

function decodeData(parts: readonly (Buffer | undefined)[]): { offset: number; segments: Float64Array } {
  const bytes = Buffer.concat(Array.from(parts, (part) => part ?? Buffer.alloc(0)))
  const numbers = Array.from({ length: Math.floor(bytes.length / NUMBER_BYTES) }, (_none, index) =>
    Number(bytes.readBigUInt64LE(index * NUMBER_BYTES)),
  )
  const [offset, ...segments] = numbers
  if (
    offset === undefined ||
    segments.length % 2 !== 0 ||
    numbers.some((number) => !Number.isSafeInteger(number))
  )
    throw invalid('the data of a sparse file are not described')
  return { offset, segments: Float64Array.from(segments) }
}
