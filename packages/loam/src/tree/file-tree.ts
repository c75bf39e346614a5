/*
 * A tree of files in memory, kept in columns. Two tables:
 *
 *   inodes   a file: mode, owner, times, size, location of its data; a hard-linked file is one inode
 *   entries  a name in a directory: parent inode, name, inode
 *
 * and one hash table over (parent, name). Entries are never moved: a removed one keeps its number and loses its
 * inode. So an entry's number is always larger than that of the entry that made its parent, and walking the
 * entries by number meets every directory before its content, in the order of the archive.
 *
 * Cost: 61 bytes an inode, 23 an entry, 8 to 16 in the hash table, and the name; columns grow by half, so up to
 * 1.5 times that for a moment. All operations are O(1) except removals, which are linear in the removed entries.
 *
 * The file is long because columns, entries and the hash table change together, and only private fields are fast enough: each operation is
 * made for every file of an image.
 */
import { LoamError } from '../errors/index.ts'
import { growColumn } from './columns.ts'
import { ByteArena } from './names.ts'
import { type Xattr, XattrSets } from './xattr-sets.ts'

/** A number of an inode; ROOT is the root directory. */
export type Inode = number
/** A number of an entry. */
export type Entry = number

/** The root directory's inode. */
export const ROOT: Inode = 0
/** Means no inode or no entry. */
export const NONE = 0xffffffff

/** File type bits of a mode (`S_IFMT` and its values in sys/stat.h). */
export const S_IFMT = 0o170000
export const S_IFREG = 0o100000
export const S_IFDIR = 0o040000
export const S_IFLNK = 0o120000
export const S_IFCHR = 0o020000
export const S_IFBLK = 0o060000
export const S_IFIFO = 0o010000
/** A hard link to a file that only a lower layer may have; only in layer trees. Not a kernel type. */
export const S_LOWER_LINK = 0o150000

/** Attributes that every inode has. */
export interface InodeAttributes {
  /** Type and permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
}

/** Location of the data of a regular file. */
export interface FileData {
  /** Position in the image's list of layers; 0 in the tree of one layer. */
  readonly layer: number
  readonly sizeBytes: number
  /** Offset of the stored bytes in that layer's tar. */
  readonly offset: number
  /** Stretches with data, as offset and length in the file, one after the other in the tar; undefined: all of it. */
  readonly segments: Float64Array | undefined
}

const FLAG_INHERITED = 1
const FLAG_OPAQUE = 2
const ENTRY_WHITEOUT = 1

const DEFAULT_DIRECTORY: InodeAttributes = {
  mode: S_IFDIR | 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
}

export class FileTree {
  readonly #seed = (Math.random() * 2 ** 32) >>> 0
  readonly #names = new ByteArena()
  // Inodes. `place` is the data offset of a file, the target's start of a link, the parent inode of a directory,
  // and major * 2^32 + minor of a device; `size` is the size of a file, the length of a target, and of a directory
  // its own entry.
  #mode = new Uint16Array(64)
  #uid = new Uint32Array(64)
  #gid = new Uint32Array(64)
  #seconds = new Float64Array(64)
  #nanoseconds = new Uint32Array(64)
  #size = new Float64Array(64)
  #place = new Float64Array(64)
  #layer = new Uint16Array(64)
  #links = new Uint32Array(64)
  #xattrs = new Uint32Array(64)
  #firstChild = new Uint32Array(64)
  #flags = new Uint8Array(64)
  #inodes = 0
  // Entries.
  #nameStart = new Uint32Array(64)
  #nameLength = new Uint8Array(64)
  #parent = new Uint32Array(64)
  #inode = new Uint32Array(64)
  #next = new Uint32Array(64)
  #entryFlags = new Uint8Array(64)
  #entries = 0
  // Open addressing; a slot holds an entry's number + 1.
  #slots = new Uint32Array(128)
  readonly #segments = new Map<Inode, Float64Array>()
  readonly #xattrSets = new XattrSets()

  constructor() {
    this.createDirectory(ROOT, DEFAULT_DIRECTORY)
    this.#links[ROOT] = 1
    this.setInherited(ROOT, true)
  }

  /** Inodes ever created; numbers run from 0. Removed ones are among them. */
  get inodeCount(): number {
    return this.#inodes
  }

  /** Entries ever created; numbers run from 0. Removed ones and whiteouts are among them. */
  get entryCount(): number {
    return this.#entries
  }

  /** Memory held by the tables and names, in bytes. */
  get heldBytes(): number {
    const columns = [
      this.#mode,
      this.#uid,
      this.#gid,
      this.#seconds,
      this.#nanoseconds,
      this.#size,
      this.#place,
      this.#layer,
      this.#links,
      this.#xattrs,
      this.#firstChild,
      this.#flags,
      this.#nameStart,
      this.#nameLength,
      this.#parent,
      this.#inode,
      this.#next,
      this.#entryFlags,
      this.#slots,
    ]
    return columns.reduce((sum, column) => sum + column.byteLength, this.#names.heldBytes)
  }

  /** Memory held by names and link targets, in bytes. */
  get nameBytes(): number {
    return this.#names.usedBytes
  }

  // ---- creating inodes ----

  #create(attributes: InodeAttributes, size: number, place: number): Inode {
    const inode = this.#inodes
    this.#inodes += 1
    if (this.#inodes > this.#mode.length) this.#growInodes(this.#inodes)
    this.#size[inode] = size
    this.#place[inode] = place
    this.#firstChild[inode] = NONE
    this.setAttributes(inode, attributes)
    return inode
  }

  #growInodes(count: number): void {
    this.#mode = growColumn(this.#mode, count)
    this.#uid = growColumn(this.#uid, count)
    this.#gid = growColumn(this.#gid, count)
    this.#seconds = growColumn(this.#seconds, count)
    this.#nanoseconds = growColumn(this.#nanoseconds, count)
    this.#size = growColumn(this.#size, count)
    this.#place = growColumn(this.#place, count)
    this.#layer = growColumn(this.#layer, count)
    this.#links = growColumn(this.#links, count)
    this.#xattrs = growColumn(this.#xattrs, count)
    this.#firstChild = growColumn(this.#firstChild, count)
    this.#flags = growColumn(this.#flags, count)
  }

  /** Creates a directory's inode; `parent` is the directory that will contain it. */
  createDirectory(parent: Inode, attributes: InodeAttributes = DEFAULT_DIRECTORY): Inode {
    return this.#create(attributes, 0, parent)
  }

  /** Creates a regular file's inode. */
  createFile(attributes: InodeAttributes, data: FileData): Inode {
    const inode = this.#create(attributes, data.sizeBytes, data.offset)
    this.#layer[inode] = data.layer
    if (data.segments !== undefined) this.#segments.set(inode, data.segments)
    return inode
  }

  /** Creates the inode of a symlink, or of a link to a lower layer (by the mode's type). */
  createLink(attributes: InodeAttributes, target: Buffer): Inode {
    return this.#create(attributes, target.length, this.#addName(target))
  }

  /** Creates the inode of a device or fifo. */
  createSpecial(attributes: InodeAttributes, major: number, minor: number): Inode {
    return this.#create(attributes, 0, major * 2 ** 32 + minor)
  }

  /** Copies another tree's inode, for the layer of this number. Entries, children and links are not copied. */
  copyInode(from: FileTree, inode: Inode, layer: number, parent: Inode): Inode {
    const attributes = from.attributes(inode)
    const type = attributes.mode & S_IFMT
    const copy = this.#copyByType(from, inode, { attributes, type, layer, parent })
    this.setXattrs(copy, from.xattrs(inode))
    return copy
  }

  #copyByType(
    from: FileTree,
    inode: Inode,
    to: { attributes: InodeAttributes; type: number; layer: number; parent: Inode },
  ): Inode {
    if (to.type === S_IFDIR) return this.createDirectory(to.parent, to.attributes)
    if (to.type === S_IFREG)
      return this.createFile(to.attributes, { ...from.fileData(inode), layer: to.layer })
    if (to.type === S_IFLNK) return this.createLink(to.attributes, from.linkTarget(inode))
    const { major, minor } = from.device(inode)
    return this.createSpecial(to.attributes, major, minor)
  }

  // ---- reading and changing inodes ----

  mode(inode: Inode): number {
    return this.#mode[inode] ?? 0
  }

  /** Returns the type bits of the mode, `S_IFREG` for example. */
  type(inode: Inode): number {
    return this.mode(inode) & S_IFMT
  }

  isDirectory(inode: Inode): boolean {
    return this.type(inode) === S_IFDIR
  }

  attributes(inode: Inode): InodeAttributes {
    return {
      mode: this.#mode[inode] ?? 0,
      uid: this.#uid[inode] ?? 0,
      gid: this.#gid[inode] ?? 0,
      mtimeSeconds: this.#seconds[inode] ?? 0,
      mtimeNanoseconds: this.#nanoseconds[inode] ?? 0,
    }
  }

  uid(inode: Inode): number {
    return this.#uid[inode] ?? 0
  }

  gid(inode: Inode): number {
    return this.#gid[inode] ?? 0
  }

  mtime(inode: Inode): { seconds: number; nanoseconds: number } {
    return { seconds: this.#seconds[inode] ?? 0, nanoseconds: this.#nanoseconds[inode] ?? 0 }
  }

  setAttributes(inode: Inode, attributes: InodeAttributes): void {
    this.#mode[inode] = attributes.mode
    this.#uid[inode] = attributes.uid
    this.#gid[inode] = attributes.gid
    this.#seconds[inode] = attributes.mtimeSeconds
    this.#nanoseconds[inode] = attributes.mtimeNanoseconds
  }

  /** Makes later times of change this one, in seconds since 1970. */
  clampTimes(latestSeconds: number): void {
    for (let inode = 0; inode < this.inodeCount; inode += 1) {
      const seconds = this.#seconds[inode] ?? 0
      if (seconds < latestSeconds) continue
      this.#seconds[inode] = latestSeconds
      this.#nanoseconds[inode] = 0
    }
  }

  /** Returns the names of the inode that exist; a directory that is in the tree has 1. */
  linkCount(inode: Inode): number {
    return this.#links[inode] ?? 0
  }

  fileData(inode: Inode): FileData {
    return {
      layer: this.#layer[inode] ?? 0,
      sizeBytes: this.#size[inode] ?? 0,
      offset: this.#place[inode] ?? 0,
      segments: this.#segments.get(inode),
    }
  }

  /** Returns a copy of a link's target. */
  linkTarget(inode: Inode): Buffer {
    return Buffer.from(this.#names.view(this.#place[inode] ?? 0, this.#size[inode] ?? 0))
  }

  /** Returns the length of a link's target. */
  linkTargetBytes(inode: Inode): number {
    return this.#size[inode] ?? 0
  }

  device(inode: Inode): { major: number; minor: number } {
    const place = this.#place[inode] ?? 0
    return { major: Math.floor(place / 2 ** 32), minor: place % 2 ** 32 }
  }

  /** Returns the parent of a directory; the root's is the root. */
  parentOfDirectory(directory: Inode): Inode {
    return this.#place[directory] ?? ROOT
  }

  xattrs(inode: Inode): readonly Xattr[] {
    return this.#xattrSets.get(this.#xattrs[inode] ?? 0)
  }

  /** Sets all xattrs of an inode. Equal sets are kept once. */
  setXattrs(inode: Inode, xattrs: readonly Xattr[]): void {
    const id = this.#xattrSets.add(xattrs)
    this.#xattrs[inode] = id
  }

  /**
   * Returns, in the tree of a layer, whether a directory has its attributes from lower layers: it is only in the path of
   * something else. In a merged tree, returns whether a file was hard-linked across layers.
   */
  isInherited(inode: Inode): boolean {
    return ((this.#flags[inode] ?? 0) & FLAG_INHERITED) !== 0
  }

  setInherited(inode: Inode, isInherited: boolean): void {
    this.#setFlag(inode, FLAG_INHERITED, isInherited)
  }

  /** An opaque directory hides its content in lower layers. */
  isOpaque(inode: Inode): boolean {
    return ((this.#flags[inode] ?? 0) & FLAG_OPAQUE) !== 0
  }

  markOpaque(inode: Inode): void {
    this.#setFlag(inode, FLAG_OPAQUE, true)
  }

  #setFlag(inode: Inode, flag: number, value: boolean): void {
    const flags = this.#flags[inode] ?? 0
    this.#flags[inode] = value ? flags | flag : flags & ~flag
  }

  // ---- entries ----

  /** Returns the entry of a name, removed or whiteout or not; NONE if there never was one. */
  findEntry(parent: Inode, name: Buffer): Entry {
    const mask = this.#slots.length - 1
    for (let slot = hashName(this.#seed, parent, name) & mask; ; slot = (slot + 1) & mask) {
      const entry = (this.#slots[slot] ?? 0) - 1
      if (entry < 0) return NONE
      if (this.#parent[entry] === parent && this.#isNamed(entry, name)) return entry
    }
  }

  /** Returns the inode of a name; NONE if there is none. */
  find(parent: Inode, name: Buffer): Inode {
    const entry = this.findEntry(parent, name)
    return entry === NONE ? NONE : this.entryInode(entry)
  }

  /** Gives an inode a name, and replaces the inode that had it. */
  setEntry(parent: Inode, name: Buffer, inode: Inode): Entry {
    const entry = this.#getOrAddEntry(parent, name)
    // First counted, then the old one dropped: setting the same inode again must not free it.
    this.#links[inode] = (this.#links[inode] ?? 0) + 1
    this.#dropInode(entry)
    this.#inode[entry] = inode
    if (this.isDirectory(inode)) this.#size[inode] = entry
    return entry
  }

  /** Removes a name, and all below it. */
  removeEntry(parent: Inode, name: Buffer): void {
    const entry = this.findEntry(parent, name)
    if (entry !== NONE) this.#dropInode(entry)
  }

  /** Empties a directory. */
  removeChildren(directory: Inode): void {
    const pending: Entry[] = []
    for (const entry of this.children(directory)) pending.push(entry)
    for (let entry = pending.pop(); entry !== undefined; entry = pending.pop()) {
      const inode = this.entryInode(entry)
      this.#unlink(entry)
      if (this.isDirectory(inode)) for (const child of this.children(inode)) pending.push(child)
    }
  }

  #dropInode(entry: Entry): void {
    const inode = this.entryInode(entry)
    if (inode === NONE) return
    this.#unlink(entry)
    if (this.isDirectory(inode)) this.removeChildren(inode)
  }

  #unlink(entry: Entry): void {
    const inode = this.entryInode(entry)
    this.#inode[entry] = NONE
    this.#links[inode] = Math.max(0, (this.#links[inode] ?? 0) - 1)
  }

  /** A whiteout hides the name in lower layers; the name may also have an inode of its own. Only in layer trees. */
  markWhiteout(parent: Inode, name: Buffer): void {
    // In a statement of its own: it may replace the column.
    const entry = this.#getOrAddEntry(parent, name)
    this.#entryFlags[entry] = ENTRY_WHITEOUT
  }

  /** Returns whether an entry is a whiteout. Those in a directory that is not in the tree any more mean nothing. */
  isWhiteout(entry: Entry): boolean {
    return this.#entryFlags[entry] === ENTRY_WHITEOUT && this.linkCount(this.entryParent(entry)) > 0
  }

  entryInode(entry: Entry): Inode {
    return this.#inode[entry] ?? NONE
  }

  entryParent(entry: Entry): Inode {
    return this.#parent[entry] ?? ROOT
  }

  /** Returns a view of the name that is valid until the tree is changed. */
  entryName(entry: Entry): Buffer {
    return this.#names.view(this.#nameStart[entry] ?? 0, this.#nameLength[entry] ?? 0)
  }

  /** Returns the length of the name. */
  entryNameBytes(entry: Entry): number {
    return this.#nameLength[entry] ?? 0
  }

  /** Copies the name and a NUL into `target`, for a system call. Returns the length without the NUL. */
  copyEntryName(entry: Entry, target: Buffer): number {
    const length = this.#names.copyTo(target, this.#nameStart[entry] ?? 0, this.#nameLength[entry] ?? 0)
    target[length] = 0
    return length
  }

  /** Yields the entries of a directory that have an inode; in no order. */
  *children(directory: Inode): Generator<Entry> {
    for (const entry of this.allChildren(directory)) if (this.entryInode(entry) !== NONE) yield entry
  }

  /** Yields the entries of a directory with pure whiteouts among them; in no order. */
  *allChildren(directory: Inode): Generator<Entry> {
    for (let entry = this.#firstChild[directory] ?? NONE; entry !== NONE; entry = this.#next[entry] ?? NONE) {
      if (this.entryInode(entry) !== NONE || this.isWhiteout(entry)) yield entry
    }
  }

  /** Returns the path of an entry below the root, without a slash in front. */
  entryPath(entry: Entry): Buffer {
    const names = [this.entryName(entry).toString('latin1')]
    let directory = this.entryParent(entry)
    while (directory !== ROOT) {
      const own = this.entryOfDirectory(directory)
      names.push(this.entryName(own).toString('latin1'))
      directory = this.entryParent(own)
    }
    return Buffer.from(names.toReversed().join('/'), 'latin1')
  }

  /** Returns the entry that a directory other than the root has. */
  entryOfDirectory(directory: Inode): Entry {
    return this.#size[directory] ?? NONE
  }

  #getOrAddEntry(parent: Inode, name: Buffer): Entry {
    const existing = this.findEntry(parent, name)
    if (existing !== NONE) return existing
    const entry = this.#entries
    this.#entries += 1
    if (this.#entries > this.#parent.length) this.#growEntries(this.#entries)
    // Before the name is added, which invalidates it if it is a view.
    this.#nameLength[entry] = name.length
    const nameStart = this.#addName(name)
    this.#nameStart[entry] = nameStart
    this.#parent[entry] = parent
    this.#inode[entry] = NONE
    this.#next[entry] = this.#firstChild[parent] ?? NONE
    this.#firstChild[parent] = entry
    this.#insertSlot(entry)
    return entry
  }

  #growEntries(count: number): void {
    this.#nameStart = growColumn(this.#nameStart, count)
    this.#nameLength = growColumn(this.#nameLength, count)
    this.#parent = growColumn(this.#parent, count)
    this.#inode = growColumn(this.#inode, count)
    this.#next = growColumn(this.#next, count)
    this.#entryFlags = growColumn(this.#entryFlags, count)
  }

  #insertSlot(entry: Entry): void {
    if (this.#entries * 2 > this.#slots.length) {
      this.#slots = new Uint32Array(this.#slots.length * 2)
      for (let other = 0; other < entry; other += 1) this.#placeSlot(other)
    }
    this.#placeSlot(entry)
  }

  #placeSlot(entry: Entry): void {
    const mask = this.#slots.length - 1
    let slot = hashName(this.#seed, this.entryParent(entry), this.entryName(entry)) & mask
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask
    this.#slots[slot] = entry + 1
  }

  #isNamed(entry: Entry, name: Buffer): boolean {
    return this.#nameLength[entry] === name.length && this.#names.equals(this.#nameStart[entry] ?? 0, name)
  }

  #addName(bytes: Buffer): number {
    if (this.#names.usedBytes + bytes.length > 0xffffffff) {
      throw new LoamError('LAYER_LIMIT', 'build file tree: more than 4 GiB of names')
    }
    return this.#names.add(bytes)
  }
}

/** FNV-1a over the parent's number and the name, mixed once more for the low bits. Seeded, so that names cannot be made to collide. */
function hashName(seed: number, parent: Inode, name: Buffer): number {
  let value = Math.imul(parent ^ seed, 0x01000193)
  for (let index = 0; index < name.length; index += 1) {
    value = Math.imul(value ^ (name[index] ?? 0), 0x01000193)
  }
  value ^= value >>> 15
  return Math.imul(value, 0x2c1b3c6d) >>> 0
}
