/*
 * The parts of a layer's tree that a file system cannot represent, kept in xattrs of the layer's own image: attributes of lower
 * layers, whiteouts beside directories of the same name, links into lower layers, opaque directories, real devices 0:0 beside
 * whiteouts, and the positions of the data of sparse files.
 */
import {
  type FileData,
  type FileTree,
  type Inode,
  NONE,
  ROOT,
  S_IFCHR,
  S_IFREG,
  S_LOWER_LINK,
  type Xattr,
} from '../tree/index.ts'
import { invalid, MAX_XATTR_VALUE_BYTES } from './format.ts'

const MARK_NAME = Buffer.from('trusted.loam.layer')
const DATA_PREFIX = 'trusted.loam.data.'
const OPAQUE: Xattr = { name: Buffer.from('trusted.overlay.opaque'), value: Buffer.from('y') }

/** Words in the xattr of an inode, separated by spaces. */
const MARKS = ['implicit', 'whiteout', 'link', 'device'] as const
export type LayerMark = (typeof MARKS)[number]

const NUMBER_BYTES = 8
const DATA_PART_BYTES = Math.floor(MAX_XATTR_VALUE_BYTES / NUMBER_BYTES) * NUMBER_BYTES

/** Returns the xattrs that mark an inode of a layer. */
export function marksOf(tree: FileTree, inode: Inode): Xattr[] {
  const marks = findMarks(tree, inode)
  const xattrs: Xattr[] = []
  if (marks.length > 0) xattrs.push({ name: MARK_NAME, value: Buffer.from(marks.join(' ')) })
  if (tree.isDirectory(inode) && tree.isOpaque(inode)) xattrs.push(OPAQUE)
  if (tree.type(inode) === S_IFREG) {
    const data = tree.fileData(inode)
    if (data.segments !== undefined) xattrs.push(...encodeData(data))
  }
  return xattrs
}

function findMarks(tree: FileTree, inode: Inode): LayerMark[] {
  if (tree.isDirectory(inode)) {
    const entry = inode === ROOT ? NONE : tree.entryOfDirectory(inode)
    const isWhitedOut = entry !== NONE && tree.isWhiteout(entry)
    return [
      ...(tree.isInherited(inode) ? ['implicit' as const] : []),
      ...(isWhitedOut ? ['whiteout' as const] : []),
    ]
  }
  if (tree.type(inode) === S_LOWER_LINK) return ['link']
  if (tree.type(inode) !== S_IFCHR) return []
  const { major, minor } = tree.device(inode)
  return major === 0 && minor === 0 ? ['device'] : []
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

/** The information in the marks of an inode. */
export interface ReadMarks {
  readonly marks: readonly LayerMark[]
  readonly isOpaque: boolean
  /** Data of a sparse file: offset in the tar, and stretches. */
  readonly data: { readonly offset: number; readonly segments: Float64Array } | undefined
  /** The file's own xattrs. */
  readonly xattrs: readonly Xattr[]
}

/** Separates the marks from an inode's xattrs. @throws EROFS_INVALID */
export function readMarks(all: readonly Xattr[]): ReadMarks {
  let marks: readonly LayerMark[] = []
  let isOpaque = false
  const parts: Buffer[] = []
  const xattrs: Xattr[] = []
  for (const xattr of all) {
    const name = xattr.name.toString('latin1')
    if (xattr.name.equals(MARK_NAME)) marks = parseMarks(xattr.value.toString('latin1'))
    else if (xattr.name.equals(OPAQUE.name)) isOpaque = true
    else if (name.startsWith(DATA_PREFIX)) parts[Number(name.slice(DATA_PREFIX.length))] = xattr.value
    else xattrs.push(xattr)
  }
  return { marks, isOpaque, data: parts.length === 0 ? undefined : decodeData(parts), xattrs }
}

function parseMarks(text: string): LayerMark[] {
  return text.split(' ').map((word) => {
    const mark = MARKS.find((known) => known === word)
    if (mark === undefined) throw invalid(`a mark ${JSON.stringify(word.slice(0, 20))}`)
    return mark
  })
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
