import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, type Xattr } from '../tree/index.ts'
import {
  CHUNK_BASED,
  CHUNK_BITS_MASK,
  CHUNK_INDEX_BYTES,
  CHUNK_INDEXES,
  COMPACT_BYTES,
  decodeSuperblock,
  DIRENT_BYTES,
  EXTENDED_BYTES,
  FLAT_INLINE,
  FLAT_PLAIN,
  invalid,
  NID_BYTES,
  NULL_BLOCK,
  roundUp,
  type Superblock,
  XATTR_ENTRY_BYTES,
  XATTR_HEADER_BYTES,
  XATTR_PREFIXES,
} from './format.ts'

const MAX_TARGET_BYTES = 4096

/** Returns `length` bytes at a position; fewer at the end of the image. */
export type ReadAt = (position: number, length: number) => Buffer

/** An inode of an image. */
export interface ErofsInode {
  readonly nid: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly links: number
  readonly sizeBytes: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  readonly layout: number
  /** Block address, device number or chunk format, by type and layout. */
  readonly dataField: number
  readonly xattrPosition: number
  readonly xattrBytes: number
}

export interface ErofsEntry {
  /** Valid until the next call. */
  readonly name: Buffer
  readonly nid: number
}

/** A stretch of a file's data. */
export interface ErofsExtent {
  /** Offset and length in the file. */
  readonly start: number
  readonly length: number
  /** 0 is the image itself, from 1 its devices; undefined is a hole. */
  readonly device: number | undefined
  /** Offset in the device. */
  readonly position: number
}

/**
 * Reads uncompressed EROFS images: Loam's own and those of mkfs.erofs. Does not trust the image: whatever the
 * bytes are, each call ends with an answer or with EROFS_INVALID, after work in proportion to the image.
 */
export class ErofsImage {
  readonly superblock: Superblock
  readonly blockBytes: number
  readonly #readAt: ReadAt
  readonly #sizeBytes: number
  readonly #sharedXattrs = new Map<number, Xattr>()

  /** @throws EROFS_INVALID */
  constructor(readAt: ReadAt, sizeBytes: number) {
    this.#readAt = readAt
    this.#sizeBytes = sizeBytes
    this.superblock = decodeSuperblock((position, length) => this.#bytes(position, length))
    this.blockBytes = 2 ** this.superblock.blockBits
  }

  /** Returns the root directory. */
  root(): ErofsInode {
    const root = this.inode(this.superblock.rootNid)
    if ((root.mode & S_IFMT) !== S_IFDIR) throw invalid('its root is not a directory')
    return root
  }

  #bytes(position: number, length: number): Buffer {
    if (
      !Number.isSafeInteger(position) ||
      position < 0 ||
      length < 0 ||
      position + length > this.#sizeBytes
    ) {
      throw invalid(`${length} bytes at ${position} are outside of it`)
    }
    const bytes = this.#readAt(position, length)
    if (bytes.length < length) throw invalid(`it ends before ${position + length}`)
    return bytes
  }

  /** Returns an inode by its number. @throws EROFS_INVALID */
  inode(nid: number): ErofsInode {
    const position = this.superblock.metaBlock * this.blockBytes + nid * NID_BYTES
    const compact = this.#bytes(position, COMPACT_BYTES)
    const format = compact.readUInt16LE(0)
    const isExtended = (format & 1) === 1
    const at = isExtended ? this.#bytes(position, EXTENDED_BYTES) : compact
    const layout = (format >> 1) & 7
    if (layout !== FLAT_PLAIN && layout !== FLAT_INLINE && layout !== CHUNK_BASED) {
      throw invalid(`inode ${nid} is compressed, which Loam does not read`)
    }
    const icount = at.readUInt16LE(2)
    const { epochSeconds, epochNanoseconds } = this.superblock
    const common = {
      nid,
      mode: at.readUInt16LE(4),
      layout,
      dataField: at.readUInt32LE(16),
      xattrPosition: position + at.length,
      xattrBytes: icount === 0 ? 0 : XATTR_HEADER_BYTES + (icount - 1) * 4,
    }
    if (!isExtended) {
      return {
        ...common,
        uid: at.readUInt16LE(24),
        gid: at.readUInt16LE(26),
        links: at.readUInt16LE(6),
        sizeBytes: at.readUInt32LE(8),
        mtimeSeconds: epochSeconds,
        mtimeNanoseconds: epochNanoseconds,
      }
    }
    return {
      ...common,
      uid: at.readUInt32LE(24),
      gid: at.readUInt32LE(28),
      links: at.readUInt32LE(44),
      sizeBytes: safe(at.readBigUInt64LE(8), `the size of inode ${nid}`),
      mtimeSeconds: safe(at.readBigInt64LE(32), `the time of inode ${nid}`),
      mtimeNanoseconds: at.readUInt32LE(40),
    }
  }

  /** Returns the numbers of a device inode. */
  device({ dataField }: ErofsInode): { major: number; minor: number } {
    return { major: (dataField >>> 8) & 0xfff, minor: (dataField & 0xff) | ((dataField >>> 12) & 0xfff00) }
  }

  /** Yields the names of a directory, `.` and `..` left out. @throws EROFS_INVALID, also when they are not sorted */
  *entries(directory: ErofsInode): Generator<ErofsEntry> {
    if (directory.layout === CHUNK_BASED) throw invalid(`directory ${directory.nid} is in chunks`)
    let previous: Buffer = Buffer.alloc(0)
    for (let start = 0; start < directory.sizeBytes; start += this.blockBytes) {
      const block = Buffer.from(
        this.readSelf(directory, start, Math.min(this.blockBytes, directory.sizeBytes - start)),
      )
      for (const entry of decodeNames(block, directory.nid)) {
        if (previous.length > 0 && entry.name.compare(previous) <= 0) {
          throw invalid(`the names of directory ${directory.nid} are not in order`)
        }
        previous = entry.name
        if (!isDots(entry.name)) yield entry
      }
    }
  }

  /** Returns the target of a symlink. @throws EROFS_INVALID */
  linkTarget(link: ErofsInode): Buffer {
    if ((link.mode & S_IFMT) !== S_IFLNK || link.sizeBytes > MAX_TARGET_BYTES) {
      throw invalid(`inode ${link.nid} is not a symlink that Linux can follow`)
    }
    return Buffer.from(this.readSelf(link, 0, link.sizeBytes))
  }

  /** Returns the xattrs of an inode. @throws EROFS_INVALID */
  xattrs({ nid, xattrPosition, xattrBytes }: ErofsInode): Xattr[] {
    if (xattrBytes === 0) return []
    const body = Buffer.from(this.#bytes(xattrPosition, xattrBytes))
    const sharedCount = body[4] ?? 0
    let at = XATTR_HEADER_BYTES + sharedCount * 4
    if (at > body.length) throw invalid(`the xattrs of inode ${nid} are cut off`)
    const found: Xattr[] = []
    for (let index = 0; index < sharedCount; index += 1) {
      const id = body.readUInt32LE(XATTR_HEADER_BYTES + index * 4)
      found.push(this.#sharedXattr(id))
    }
    while (at + XATTR_ENTRY_BYTES <= body.length) {
      const bytes = xattrEntryBytes(body.subarray(at))
      if (at + bytes > body.length) throw invalid(`the xattrs of inode ${nid} are cut off`)
      found.push(decodeXattr(body.subarray(at, at + bytes)))
      at += roundUp(bytes, 4)
    }
    return found
  }

  #sharedXattr(id: number): Xattr {
    const known = this.#sharedXattrs.get(id)
    if (known !== undefined) return known
    const position = this.superblock.xattrBlock * this.blockBytes + id * 4
    const bytes = xattrEntryBytes(this.#bytes(position, XATTR_ENTRY_BYTES))
    const xattr = decodeXattr(Buffer.from(this.#bytes(position, bytes)))
    this.#sharedXattrs.set(id, xattr)
    return xattr
  }

  /** Yields the positions of the data of a file, directory or link, without a gap from its start to its end. @throws EROFS_INVALID */
  *extents(inode: ErofsInode): Generator<ErofsExtent> {
    const { sizeBytes, layout, dataField } = inode
    if (layout === CHUNK_BASED) {
      yield* this.#chunks(inode)
      return
    }
    const tailBytes = layout === FLAT_INLINE ? sizeBytes % this.blockBytes || this.blockBytes : 0
    const wholeBytes = Math.max(0, sizeBytes - tailBytes)
    if (wholeBytes > 0) {
      yield { start: 0, length: wholeBytes, device: 0, position: dataField * this.blockBytes }
    }
    if (tailBytes === 0 || sizeBytes === 0) return
    const position = inode.xattrPosition + inode.xattrBytes
    if ((position % this.blockBytes) + (sizeBytes - wholeBytes) > this.blockBytes) {
      throw invalid(`the tail of inode ${inode.nid} crosses into another block`)
    }
    yield { start: wholeBytes, length: sizeBytes - wholeBytes, device: 0, position }
  }

  *#chunks({ nid, sizeBytes, dataField, xattrPosition, xattrBytes }: ErofsInode): Generator<ErofsExtent> {
    const format = dataField & 0xffff
    if ((format & ~(CHUNK_BITS_MASK | CHUNK_INDEXES)) !== 0) throw invalid(`the chunk format of inode ${nid}`)
    const chunkBytes = 2 ** (this.superblock.blockBits + (format & CHUNK_BITS_MASK))
    const hasIndexes = (format & CHUNK_INDEXES) !== 0
    const unit = hasIndexes ? CHUNK_INDEX_BYTES : 4
    const table = roundUp(xattrPosition + xattrBytes, unit)
    const count = Math.ceil(sizeBytes / chunkBytes)
    if (table + count * unit > this.#sizeBytes) throw invalid(`the chunks of inode ${nid} are outside of it`)
    for (let chunk = 0; chunk < count; chunk += 1) {
      const at = this.#bytes(table + chunk * unit, unit)
      const block = at.readUInt32LE(hasIndexes ? 4 : 0)
      const device = hasIndexes ? at.readUInt16LE(2) & this.#deviceMask() : 0
      if (device > this.superblock.devices.length) throw invalid(`inode ${nid} names device ${device}`)
      const start = chunk * chunkBytes
      const length = Math.min(chunkBytes, sizeBytes - start)
      if (block === NULL_BLOCK) yield { start, length, device: undefined, position: 0 }
      else yield { start, length, device, position: block * this.blockBytes }
    }
  }

  /** The kernel takes just the bits that a device's number can need. */
  #deviceMask(): number {
    return 2 ** Math.ceil(Math.log2(this.superblock.devices.length + 1)) - 1
  }

  /** Returns data that is in the image itself. @throws EROFS_INVALID if it is not, or not completely */
  readSelf(inode: ErofsInode, start: number, length: number): Buffer {
    const end = start + length
    const parts: Buffer[] = []
    for (const extent of this.extents(inode)) {
      const from = Math.max(start, extent.start)
      const to = Math.min(end, extent.start + extent.length)
      if (from >= to) continue
      if (extent.device !== 0) throw invalid(`the data of inode ${inode.nid} are not in it`)
      const bytes = this.#bytes(extent.position + from - extent.start, to - from)
      // A single piece is passed on directly; of several, each is copied before the next is read.
      if (to === end && parts.length === 0) return bytes
      parts.push(Buffer.from(bytes))
    }
    const whole = Buffer.concat(parts)
    if (whole.length < length) throw invalid(`the data of inode ${inode.nid} are cut off`)
    return whole
  }

  isDirectory({ mode }: ErofsInode): boolean {
    return (mode & S_IFMT) === S_IFDIR
  }

  isFile({ mode }: ErofsInode): boolean {
    return (mode & S_IFMT) === S_IFREG
  }
}

function safe(value: bigint, what: string): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number)) throw invalid(`${what} is ${value}`)
  return number
}

function isDots(name: Buffer): boolean {
  return name[0] === 46 && (name.length === 1 || (name.length === 2 && name[1] === 46))
}

function decodeNames(block: Buffer, nid: number): ErofsEntry[] {
  const bad = () => invalid(`a block of directory ${nid} is damaged`)
  if (block.length < DIRENT_BYTES) throw bad()
  const namesAt = block.readUInt16LE(8)
  if (namesAt < DIRENT_BYTES || namesAt % DIRENT_BYTES !== 0 || namesAt > block.length) throw bad()
  const count = namesAt / DIRENT_BYTES
  return Array.from({ length: count }, (_none, index) => {
    const at = index * DIRENT_BYTES
    const start = block.readUInt16LE(at + 8)
    const next = index + 1 < count ? block.readUInt16LE(at + DIRENT_BYTES + 8) : block.length
    if (start < namesAt || next <= start || next > block.length) throw bad()
    const padded = block.subarray(start, next)
    const end = index + 1 < count ? -1 : padded.indexOf(0)
    const name = end < 0 ? padded : padded.subarray(0, end)
    if (name.length === 0 || name.length > 255 || name.includes(0) || name.includes(47)) throw bad()
    return { name, nid: safe(block.readBigUInt64LE(at), `an inode number in directory ${nid}`) }
  })
}

function xattrEntryBytes(entry: Buffer): number {
  return XATTR_ENTRY_BYTES + (entry[0] ?? 0) + entry.readUInt16LE(2)
}

function decodeXattr(entry: Buffer): Xattr {
  const nameBytes = entry[0] ?? 0
  const index = entry[1] ?? 0
  const prefix = XATTR_PREFIXES.find(([number]) => number === index)?.[1]
  if (prefix === undefined) throw invalid(`an xattr of kind ${index}`)
  const nameEnd = XATTR_ENTRY_BYTES + nameBytes
  return {
    name: Buffer.concat([Buffer.from(prefix), entry.subarray(XATTR_ENTRY_BYTES, nameEnd)]),
    value: Buffer.from(entry.subarray(nameEnd)),
  }
}
