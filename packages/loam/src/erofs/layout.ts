import {
  type FileData,
  type FileTree,
  type Inode,
  NONE,
  ROOT,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  S_LOWER_LINK,
  SELF,
  SortedTree,
  UP,
  type Xattr,
} from '../tree/index.ts'
import {
  type Chunk,
  type ChunkPlan,
  cutIntoChunks,
  planChunks,
  runsOf,
  firstApartFromTar,
} from './chunk-plan.ts'
import { directoryShape } from './directory-blocks.ts'
import {
  CHUNK_BASED,
  CHUNK_INDEX_BYTES,
  COMPACT_BYTES,
  DEVICE_SLOT_BYTES,
  type ErofsDevice,
  EXTENDED_BYTES,
  FLAT_INLINE,
  FLAT_PLAIN,
  invalid,
  NID_BYTES,
  roundUp,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET,
  TAR_BLOCK_BITS,
  XATTR_HEADER_BYTES,
} from './format.ts'
import { marksOf } from './layer-marks.ts'
import type { ErofsOptions } from './options.ts'
import { type XattrBody, xattrBodyBytes, XattrTable } from './xattr-table.ts'

const DISK_BLOCK_BITS = 12
/** The time of compact inodes is chosen among this many first inodes. */
const MAX_COUNTED_TIMES = 65536
const MAX_BLOCKS = 0xffffffff
const MAX_MAJOR = 0xfff
const MAX_MINOR = 0xfffff

/** The place of an inode in the image, and the data that follows it. */
export interface InodePlan {
  readonly isExtended: boolean
  readonly layout: typeof FLAT_PLAIN | typeof FLAT_INLINE | typeof CHUNK_BASED
  /** Bytes of the file, link target, or directory. */
  readonly sizeBytes: number
  readonly xattrs: XattrBody
  /** Data after the inode: the tail that fills no block. */
  readonly inlineBytes: number
  /** Blocks in the data area. */
  readonly blocks: number
  readonly chunks: ChunkPlan | undefined
}

type FlatPlan = Pick<InodePlan, 'layout' | 'inlineBytes' | 'blocks'>

/**
 * Decides the position of each part of an image, before a byte of it is written: first the head with the device table, then the
 * inodes, the root's before all others since its number has 16 bits, and a directory's together; then the shared xattrs, the
 * blocks of directories and long links, and file data.
 */
export class ImageLayout {
  readonly tree: FileTree
  readonly sorted: SortedTree
  /** The one inode of all whiteouts of a layer: a device 0:0 with many names. */
  readonly whiteout: Inode
  readonly blockBits: number
  readonly blockBytes: number
  readonly devices: ErofsDevice[] = []
  readonly xattrs = new XattrTable()
  /** In the order of their positions. */
  readonly inodes: Uint32Array
  readonly xattrPosition: number
  readonly epoch: { readonly seconds: number; readonly nanoseconds: number }
  readonly #options: ErofsOptions
  readonly #isLayer: boolean
  readonly #nids: Uint32Array
  readonly #links: Uint32Array
  /** First block in its area of each inode that has any. */
  readonly #blocks: Float64Array
  readonly #directorySizes: Float64Array
  readonly #deviceOfLayer = new Map<number, number>()
  readonly #metadataBlocks: number
  readonly #dataBlocks: number
  readonly #blockStart: number

  constructor(tree: FileTree, options: ErofsOptions) {
    this.tree = tree
    this.#options = options
    this.#isLayer = options.contents === 'layer'
    this.blockBits = options.data === 'tar' ? TAR_BLOCK_BITS : DISK_BLOCK_BITS
    this.blockBytes = 2 ** this.blockBits
    this.whiteout = tree.inodeCount
    this.sorted = new SortedTree(
      tree,
      (entry) => tree.entryInode(entry) !== NONE || (this.#isLayer && tree.isWhiteout(entry)),
    )
    this.#nids = new Uint32Array(tree.inodeCount + 1)
    this.#links = new Uint32Array(tree.inodeCount + 1)
    this.#blocks = new Float64Array(tree.inodeCount + 1)
    this.#directorySizes = new Float64Array(tree.inodeCount)
    this.inodes = this.#collectInodes()
    this.#measureDirectories()
    this.epoch = this.#chooseEpoch()
    if (options.data === 'tar') this.#chooseDevices()
    this.#shareXattrs()
    const { end, metadataBlocks } = this.#place(this.#headBytes)
    this.xattrPosition = roundUp(end, this.blockBytes)
    this.#blockStart =
      roundUp(this.xattrPosition + this.xattrs.sharedBytes, this.blockBytes) / this.blockBytes
    this.#metadataBlocks = metadataBlocks
    this.#dataBlocks = this.#placeData(this.#blockStart + metadataBlocks)
    if (this.sizeBytes / this.blockBytes > MAX_BLOCKS)
      throw invalid('it would be larger than EROFS can address')
  }

  get #headBytes(): number {
    return roundUp(
      SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES + this.devices.length * DEVICE_SLOT_BYTES,
      this.blockBytes,
    )
  }

  /** Start of the blocks of directories and links. */
  get blocksPosition(): number {
    return this.#blockStart * this.blockBytes
  }

  get sizeBytes(): number {
    return (this.#blockStart + this.#metadataBlocks + this.#dataBlocks) * this.blockBytes
  }

  /** The inode of an entry; all whiteouts of a layer share one. */
  inodeOf(entry: number): Inode {
    const inode = this.tree.entryInode(entry)
    return inode === NONE ? this.whiteout : inode
  }

  nid(inode: Inode): number {
    return this.#nids[inode] ?? 0
  }

  links(inode: Inode): number {
    return this.#links[inode] ?? 0
  }

  /** First of the whole blocks of an inode, as the image counts them. */
  firstBlock(inode: Inode): number {
    const relative = (this.#blocks[inode] ?? 0) + this.#blockStart
    return this.type(inode) === S_IFREG ? relative + this.#metadataBlocks : relative
  }

  /** The type of an inode in the image. */
  type(inode: Inode): number {
    if (inode === this.whiteout) return S_IFCHR
    const type = this.tree.type(inode)
    return type === S_LOWER_LINK ? S_IFLNK : type
  }

  /** Returns the number of a layer's device, from 1. */
  deviceOf(layer: number): number {
    return this.#deviceOfLayer.get(layer) ?? 0
  }

  nameBytes(entries: Uint32Array): Uint16Array {
    const bytes = new Uint16Array(entries.length)
    for (let index = 0; index < entries.length; index += 1) {
      const entry = entries[index] ?? SELF
      bytes[index] = entry === SELF ? 1 : entry === UP ? 2 : this.tree.entryNameBytes(entry)
    }
    return bytes
  }

  #collectInodes(): Uint32Array {
    const order = new Uint32Array(this.tree.inodeCount + 1)
    const seen = new Uint8Array(this.tree.inodeCount + 1)
    let used = 0
    const add = (inode: Inode) => {
      if (seen[inode] !== 1) {
        seen[inode] = 1
        order[used] = inode
        used += 1
      }
    }
    add(ROOT)
    for (const directory of this.sorted.directories) {
      // Its own `.`, and one for the name; the root's `..` is its own, too.
      this.#links[directory] = (this.#links[directory] ?? 0) + 2
      for (const entry of this.sorted.entriesOf(directory)) {
        if (entry >= UP) continue
        const inode = this.inodeOf(entry)
        add(inode)
        if (this.type(inode) === S_IFDIR) this.#links[directory] = (this.#links[directory] ?? 0) + 1
        else this.#links[inode] = (this.#links[inode] ?? 0) + 1
      }
    }
    return order.subarray(0, used)
  }

  #measureDirectories(): void {
    for (const directory of this.sorted.directories) {
      const shape = directoryShape(this.nameBytes(this.sorted.entriesOf(directory)), this.blockBytes)
      this.#directorySizes[directory] = (shape.blocks - 1) * this.blockBytes + shape.lastBytes
    }
  }

  /** Inodes with the most common time take half the space: they do not store it. */
  #chooseEpoch(): ImageLayout['epoch'] {
    const counts = new Map<string, number>()
    for (const inode of this.inodes) {
      if (inode === this.whiteout) continue
      const { mtimeSeconds, mtimeNanoseconds } = this.tree.attributes(inode)
      const key = `${mtimeSeconds} ${mtimeNanoseconds}`
      const count = counts.get(key) ?? 0
      if (count > 0 || counts.size < MAX_COUNTED_TIMES) counts.set(key, count + 1)
    }
    let best = '0 0'
    let most = 0
    for (const [key, count] of counts) if (count > most) [best, most] = [key, count]
    const [seconds = 0, nanoseconds = 0] = best.split(' ').map(Number)
    return { seconds, nanoseconds }
  }

  #chooseDevices(): void {
    const byTag = new Map<string, number>()
    for (const inode of this.inodes) {
      if (this.type(inode) !== S_IFREG) continue
      const { layer, sizeBytes } = this.tree.fileData(inode)
      if (sizeBytes === 0 || this.#deviceOfLayer.has(layer)) continue
      const device = this.#options.layers[layer]
      if (device === undefined) throw invalid(`no layer ${layer}`)
      const known = byTag.get(device.tag) ?? this.devices.push(device)
      byTag.set(device.tag, known)
      this.#deviceOfLayer.set(layer, known)
    }
  }

  #shareXattrs(): void {
    for (const inode of this.inodes) if (inode !== this.whiteout) this.xattrs.count(this.tree.xattrs(inode))
    this.xattrs.share()
    // Marks too large to be inline go into the shared table, whose end must be known before blocks get positions.
    if (this.#isLayer) for (const inode of this.inodes) this.#bodyOf(inode)
  }

  #bodyOf(inode: Inode): XattrBody {
    if (inode === this.whiteout) return this.xattrs.body([], [])
    const marks: readonly Xattr[] = this.#isLayer ? marksOf(this.tree, inode) : []
    return this.xattrs.body(this.tree.xattrs(inode), marks)
  }

  /** Gives every inode its position, and the blocks of directories and links theirs. */
  #place(start: number): { end: number; metadataBlocks: number } {
    let end = start
    let metadataBlocks = 0
    for (const inode of this.inodes) {
      const plan = this.plan(inode)
      const type = this.type(inode)
      const headBytes = inodeBytes(plan) + xattrBodyBytes(plan.xattrs)
      let position = roundUp(end, NID_BYTES)
      if (plan.inlineBytes > 0) position = this.#keepTailWhole(position, headBytes, plan.inlineBytes, type)
      this.#nids[inode] = position / NID_BYTES
      end = position + headBytes + plan.inlineBytes
      if (plan.chunks !== undefined)
        end = roundUp(end, CHUNK_INDEX_BYTES) + plan.chunks.chunks * CHUNK_INDEX_BYTES
      if (plan.blocks === 0) continue
      // Those of data get their places when it is known where data begin.
      this.#blocks[inode] = type === S_IFREG ? plan.blocks : metadataBlocks
      if (type !== S_IFREG) metadataBlocks += plan.blocks
    }
    // fsck.erofs 1.5 reads an xattr header behind every inode, even if the inode has none.
    return { end: end + XATTR_HEADER_BYTES, metadataBlocks }
  }

  /** Gives the data of every file in the image its blocks, counted from the first one of data. Returns the number of blocks. */
  #placeData(firstDataBlock: number): number {
    let end = 0
    for (const inode of this.inodes) {
      const blocks = this.#blocks[inode] ?? 0
      if (blocks === 0 || this.type(inode) !== S_IFREG) continue
      const plan = this.#options.data === 'tar' ? this.plan(inode).chunks : undefined
      if (plan !== undefined) {
        const chunks = this.cutFile(this.tree.fileData(inode), plan)
        end = firstApartFromTar(firstDataBlock + end, chunks, plan, this.blockBits) - firstDataBlock
      }
      this.#blocks[inode] = end
      end += blocks
    }
    return end
  }

  /** A tail after its inode may not cross into another block, and a link's not into another than its inode's. */
  #keepTailWhole(position: number, headBytes: number, inlineBytes: number, type: number): number {
    const isOneBlock = (start: number, bytes: number) => (start % this.blockBytes) + bytes <= this.blockBytes
    if (type === S_IFLNK) {
      return isOneBlock(position, headBytes + inlineBytes) ? position : roundUp(position, this.blockBytes)
    }
    const tail = position + headBytes
    if (isOneBlock(tail, inlineBytes)) return position
    return roundUp(roundUp(tail, this.blockBytes) - headBytes, NID_BYTES)
  }

  /** Describes an inode; the same each time. */
  plan(inode: Inode): InodePlan {
    const xattrs = this.#bodyOf(inode)
    const type = this.type(inode)
    if (type === S_IFREG) return this.#planFile(inode, xattrs)
    const sizeBytes =
      type === S_IFDIR
        ? (this.#directorySizes[inode] ?? 0)
        : type === S_IFLNK
          ? this.tree.linkTargetBytes(inode)
          : 0
    const isExtended = this.#needsExtended(inode, sizeBytes)
    return {
      isExtended,
      sizeBytes,
      xattrs,
      chunks: undefined,
      ...this.#planFlat(sizeBytes, isExtended, xattrs),
    }
  }

  #planFile(inode: Inode, xattrs: XattrBody): InodePlan {
    const data = this.tree.fileData(inode)
    const { sizeBytes } = data
    const isExtended = this.#needsExtended(inode, sizeBytes)
    const common = { isExtended, sizeBytes, xattrs }
    if (sizeBytes === 0)
      return { ...common, layout: FLAT_PLAIN, inlineBytes: 0, blocks: 0, chunks: undefined }
    const isExternal = this.#options.data === 'tar'
    if (!isExternal && data.segments === undefined) {
      return { ...common, chunks: undefined, ...this.#planData(sizeBytes, isExtended, xattrs) }
    }
    const chunks = planChunks(sizeBytes, runsOf(data), this.blockBits, isExternal)
    const blocks = chunks.copied * 2 ** (chunks.chunkBits - this.blockBits)
    return { ...common, layout: CHUNK_BASED, inlineBytes: 0, blocks, chunks }
  }

  /** Returns the chunks of a file that was planned in chunks. */
  cutFile(data: FileData, plan: ChunkPlan): Generator<Chunk> {
    const isExternal = this.#options.data === 'tar'
    return cutIntoChunks(data.sizeBytes, runsOf(data), plan, { blockBits: this.blockBits, isExternal })
  }

  #planData(sizeBytes: number, isExtended: boolean, xattrs: XattrBody): FlatPlan {
    if (this.#options.data !== 'blocks') return this.#planFlat(sizeBytes, isExtended, xattrs)
    return { layout: FLAT_PLAIN, inlineBytes: 0, blocks: Math.ceil(sizeBytes / this.blockBytes) }
  }

  /** Data in whole blocks, and the rest of it after the inode if there is room. */
  #planFlat(sizeBytes: number, isExtended: boolean, xattrs: XattrBody): FlatPlan {
    const tail = sizeBytes % this.blockBytes
    const headBytes = (isExtended ? EXTENDED_BYTES : COMPACT_BYTES) + xattrBodyBytes(xattrs)
    const blocks = Math.floor(sizeBytes / this.blockBytes)
    if (tail === 0) return { layout: FLAT_PLAIN, inlineBytes: 0, blocks }
    if (headBytes + tail <= this.blockBytes) return { layout: FLAT_INLINE, inlineBytes: tail, blocks }
    return { layout: FLAT_PLAIN, inlineBytes: 0, blocks: blocks + 1 }
  }

  #needsExtended(inode: Inode, sizeBytes: number): boolean {
    if (inode === this.whiteout) return this.links(inode) > 0xffff
    const { uid, gid, mtimeSeconds, mtimeNanoseconds } = this.tree.attributes(inode)
    return (
      uid > 0xffff ||
      gid > 0xffff ||
      mtimeSeconds !== this.epoch.seconds ||
      mtimeNanoseconds !== this.epoch.nanoseconds ||
      this.links(inode) > 0xffff ||
      sizeBytes > 0xffffffff
    )
  }

  /** Returns a device's number as the kernel writes it. */
  deviceNumber(inode: Inode): number {
    if (inode === this.whiteout) return 0
    const { major, minor } = this.tree.device(inode)
    if (major > MAX_MAJOR || minor > MAX_MINOR) throw invalid(`a device ${major}:${minor}`)
    return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0
  }
}

function inodeBytes({ isExtended }: InodePlan): number {
  return isExtended ? EXTENDED_BYTES : COMPACT_BYTES
}
