import { type Inode, ROOT, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, SELF, UP } from '../tree/index.ts'
import { type ChunkPlan, type Run, runsOf } from './chunk-plan.ts'
import { deviceSlots } from './device-slots.ts'
import { cutNames } from './directory-blocks.ts'
import {
  CHUNK_BASED,
  CHUNK_INDEX_BYTES,
  CHUNK_INDEXES,
  COMPACT_BYTES,
  DIRENT_BYTES,
  DIRENT_TYPES,
  encodeSuperblock,
  EXTENDED_BYTES,
  NID_BYTES,
  NULL_BLOCK,
  roundUp,
  XATTR_HEADER_BYTES,
} from './format.ts'
import { imageUuid } from './image-uuid.ts'
import type { ImageLayout, InodePlan } from './layout.ts'
import type { ErofsOptions } from './options.ts'
import { writeXattrBody, xattrBodyBytes } from './xattr-table.ts'

const BUFFER_BYTES = 1 << 20
const NO_UUID = Buffer.alloc(16)

/** Writes the image of a layout, from front to back. */
export class ImageEmitter {
  readonly #layout: ImageLayout
  readonly #options: ErofsOptions
  readonly #output: SequentialOutput

  constructor(layout: ImageLayout, options: ErofsOptions) {
    this.#layout = layout
    this.#options = options
    this.#output = new SequentialOutput(options.write, Math.min(BUFFER_BYTES, layout.sizeBytes))
  }

  run(): void {
    const layout = this.#layout
    this.#writeHead()
    for (const [number, inode] of layout.inodes.entries()) this.#writeInode(inode, number)
    this.#output.fillTo(layout.xattrPosition)
    for (const entry of layout.xattrs.entries) this.#output.write(entry)
    this.#output.fillTo(layout.blocksPosition)
    for (const inode of layout.inodes) this.#writeBlocks(inode)
    for (const inode of layout.inodes) if (layout.type(inode) === S_IFREG) this.#writeData(inode)
    this.#output.fillTo(layout.sizeBytes)
    this.#output.flush()
  }

  #writeHead(): void {
    const { blockBits, blockBytes, devices, epoch, inodes, xattrPosition, sizeBytes } = this.#layout
    const { data, contents, uuid = NO_UUID } = this.#options
    this.#output.write(
      encodeSuperblock({
        blockBits,
        rootNid: this.#layout.nid(ROOT),
        inodes: inodes.length,
        epochSeconds: epoch.seconds,
        epochNanoseconds: epoch.nanoseconds,
        blocks: sizeBytes / blockBytes,
        metaBlock: 0,
        xattrBlock: xattrPosition / blockBytes,
        uuid: data === 'tar' && contents === 'merged' ? imageUuid(this.#layout) : uuid,
        devices: deviceSlots(devices, { imageBytes: sizeBytes, blockBytes }),
      }),
    )
  }

  #writeInode(inode: Inode, number: number): void {
    const layout = this.#layout
    const plan = layout.plan(inode)
    this.#output.fillTo(layout.nid(inode) * NID_BYTES)
    this.#encodeInode(inode, number, plan)
    const xattrBytes = xattrBodyBytes(plan.xattrs)
    if (xattrBytes > 0) writeXattrBody(plan.xattrs, this.#output.reserve(xattrBytes))
    if (plan.inlineBytes > 0) this.#writeTail(inode, plan)
    if (plan.chunks !== undefined) this.#writeChunkIndexes(inode, plan.chunks)
  }

  #encodeInode(inode: Inode, number: number, plan: InodePlan): void {
    const layout = this.#layout
    const isWhiteout = inode === layout.whiteout
    const mode = isWhiteout ? S_IFCHR : layout.type(inode) | (layout.tree.mode(inode) & 0o7777)
    const uid = isWhiteout ? 0 : layout.tree.uid(inode)
    const gid = isWhiteout ? 0 : layout.tree.gid(inode)
    const xattrBytes = xattrBodyBytes(plan.xattrs)
    const at = this.#output.reserve(plan.isExtended ? EXTENDED_BYTES : COMPACT_BYTES)
    at.fill(0)
    at.writeUInt16LE((plan.isExtended ? 1 : 0) | (plan.layout << 1), 0)
    at.writeUInt16LE(xattrBytes === 0 ? 0 : (xattrBytes - XATTR_HEADER_BYTES) / 4 + 1, 2)
    at.writeUInt16LE(mode, 4)
    at.writeUInt32LE(this.#dataField(inode, plan), 16)
    at.writeUInt32LE(number + 1, 20)
    if (!plan.isExtended) {
      at.writeUInt16LE(layout.links(inode), 6)
      at.writeUInt32LE(plan.sizeBytes, 8)
      at.writeUInt16LE(uid, 24)
      at.writeUInt16LE(gid, 26)
      return
    }
    at.writeUInt32LE(plan.sizeBytes % 2 ** 32, 8)
    at.writeUInt32LE(Math.floor(plan.sizeBytes / 2 ** 32), 12)
    at.writeUInt32LE(uid, 24)
    at.writeUInt32LE(gid, 28)
    const { seconds, nanoseconds } = isWhiteout ? layout.epoch : layout.tree.mtime(inode)
    at.writeUInt32LE(((seconds % 2 ** 32) + 2 ** 32) % 2 ** 32, 32)
    at.writeInt32LE(Math.floor(seconds / 2 ** 32), 36)
    at.writeUInt32LE(nanoseconds, 40)
    at.writeUInt32LE(layout.links(inode), 44)
  }

  /** The field for the position of the data, or for the device number. */
  #dataField(inode: Inode, plan: InodePlan): number {
    const layout = this.#layout
    if (plan.layout === CHUNK_BASED) {
      return ((plan.chunks?.chunkBits ?? layout.blockBits) - layout.blockBits) | CHUNK_INDEXES
    }
    const type = layout.type(inode)
    if (type !== S_IFREG && type !== S_IFDIR && type !== S_IFLNK) return layout.deviceNumber(inode)
    return plan.blocks > 0 ? layout.firstBlock(inode) : 0
  }

  #writeTail(inode: Inode, plan: InodePlan): void {
    const layout = this.#layout
    const from = plan.sizeBytes - plan.inlineBytes
    const type = layout.type(inode)
    if (type === S_IFLNK) this.#output.write(layout.tree.linkTarget(inode).subarray(from))
    else if (type === S_IFDIR) this.#writeDirectory(inode, 'tail')
    else this.#copyData(inode, from, plan.inlineBytes)
  }

  #writeChunkIndexes(inode: Inode, plan: ChunkPlan): void {
    const layout = this.#layout
    const data = layout.tree.fileData(inode)
    const device = layout.deviceOf(data.layer)
    let copied = layout.firstBlock(inode)
    this.#output.fillTo(roundUp(this.#output.position, CHUNK_INDEX_BYTES))
    for (const chunk of layout.cutFile(data, plan)) {
      const at = this.#output.reserve(CHUNK_INDEX_BYTES)
      at.writeUInt16LE(0, 0)
      at.writeUInt16LE(chunk.kind === 'stored' ? device : 0, 2)
      if (chunk.kind === 'stored') at.writeUInt32LE(chunk.position / layout.blockBytes, 4)
      else at.writeUInt32LE(chunk.kind === 'hole' ? NULL_BLOCK : copied, 4)
      if (chunk.kind === 'copied') copied += 2 ** (plan.chunkBits - layout.blockBits)
    }
  }

  /** The blocks of directories, and of links too long to be stored after their inode. */
  #writeBlocks(inode: Inode): void {
    const type = this.#layout.type(inode)
    if (type === S_IFDIR) this.#writeDirectory(inode, 'blocks')
    else if (type === S_IFLNK) {
      const plan = this.#layout.plan(inode)
      if (plan.blocks === 0) return
      this.#output.write(this.#layout.tree.linkTarget(inode).subarray(0, plan.sizeBytes - plan.inlineBytes))
      this.#output.fillTo(roundUp(this.#output.position, this.#layout.blockBytes))
    }
  }

  #writeDirectory(directory: Inode, part: 'blocks' | 'tail'): void {
    const layout = this.#layout
    const entries = layout.sorted.entriesOf(directory)
    const nameBytes = layout.nameBytes(entries)
    const { inlineBytes } = layout.plan(directory)
    let start = 0
    for (const { end, usedBytes } of cutNames(nameBytes, layout.blockBytes)) {
      const isTail = end === entries.length && inlineBytes > 0
      if (isTail === (part === 'tail')) {
        const block = this.#output.reserve(isTail ? usedBytes : layout.blockBytes)
        block.fill(0)
        this.#encodeNames(block, directory, entries.subarray(start, end))
      }
      start = end
    }
  }

  #encodeNames(block: Buffer, directory: Inode, entries: Uint32Array): void {
    const layout = this.#layout
    let nameAt = entries.length * DIRENT_BYTES
    for (const [index, entry] of entries.entries()) {
      const inode = this.#target(directory, entry)
      const at = index * DIRENT_BYTES
      block.writeUInt32LE(layout.nid(inode), at)
      block.writeUInt16LE(nameAt, at + 8)
      block[at + 10] = DIRENT_TYPES.get(layout.type(inode)) ?? 0
      if (entry >= UP) nameAt += block.write(entry === SELF ? '.' : '..', nameAt, 'latin1')
      else nameAt += layout.tree.entryName(entry).copy(block, nameAt)
    }
  }

  #target(directory: Inode, entry: number): Inode {
    if (entry === SELF) return directory
    return entry === UP ? this.#layout.tree.parentOfDirectory(directory) : this.#layout.inodeOf(entry)
  }

  #writeData(inode: Inode): void {
    const layout = this.#layout
    const plan = layout.plan(inode)
    if (plan.blocks === 0) return
    this.#output.fillTo(layout.firstBlock(inode) * layout.blockBytes)
    if (plan.chunks === undefined) this.#copyData(inode, 0, plan.sizeBytes - plan.inlineBytes)
    else this.#copyChunks(inode, plan.chunks)
    this.#output.fillTo(roundUp(this.#output.position, layout.blockBytes))
  }

  #copyData(inode: Inode, from: number, bytes: number): void {
    const { layer, offset } = this.#layout.tree.fileData(inode)
    for (let done = 0; done < bytes; ) {
      const length = Math.min(bytes - done, BUFFER_BYTES)
      this.#options.readData(layer, offset + from + done, this.#output.reserve(length))
      done += length
    }
  }

  #copyChunks(inode: Inode, plan: ChunkPlan): void {
    const layout = this.#layout
    const data = layout.tree.fileData(inode)
    const runs = runsOf(data)
    const chunkBytes = 2 ** plan.chunkBits
    let index = 0
    let chunkStart = 0
    for (const chunk of layout.cutFile(data, plan)) {
      const end = chunkStart + chunkBytes
      if (chunk.kind === 'copied') {
        const base = this.#output.position - chunkStart
        while (index < runs.length && (runs[index]?.end ?? 0) <= chunkStart) index += 1
        for (let at = index; at < runs.length && (runs[at]?.start ?? 0) < end; at += 1) {
          const run = runs[at]
          if (run !== undefined) this.#copyRun(data.layer, run, { from: chunkStart, end, base })
        }
        this.#output.fillTo(base + end)
      }
      chunkStart = end
    }
  }

  #copyRun(layer: number, run: Run, chunk: { from: number; end: number; base: number }): void {
    const start = Math.max(run.start, chunk.from)
    const end = Math.min(run.end, chunk.end)
    this.#output.fillTo(chunk.base + start)
    for (let at = start; at < end; ) {
      const length = Math.min(end - at, BUFFER_BYTES)
      this.#options.readData(layer, run.position + at - run.start, this.#output.reserve(length))
      at += length
    }
  }
}

/** Bytes that are collected and passed on in large pieces. */
class SequentialOutput {
  readonly #write: (chunk: Buffer) => void
  readonly #buffer: Buffer
  #used = 0
  #written = 0

  /** No piece is larger than `bufferBytes`. */
  constructor(write: (chunk: Buffer) => void, bufferBytes: number) {
    this.#write = write
    this.#buffer = Buffer.alloc(bufferBytes)
  }

  get position(): number {
    return this.#written + this.#used
  }

  /** Returns the next bytes of the output, to be filled before the next call; their content is undefined. At most 1 MiB. */
  reserve(length: number): Buffer {
    if (this.#used + length > this.#buffer.length) this.flush()
    const start = this.#used
    this.#used += length
    return this.#buffer.subarray(start, this.#used)
  }

  write(bytes: Buffer): void {
    for (let done = 0; done < bytes.length; ) {
      const length = Math.min(bytes.length - done, this.#buffer.length)
      bytes.copy(this.reserve(length), 0, done, done + length)
      done += length
    }
  }

  /** Writes zeros up to a position. */
  fillTo(position: number): void {
    while (this.position < position)
      this.reserve(Math.min(position - this.position, this.#buffer.length)).fill(0)
  }

  flush(): void {
    if (this.#used > 0) this.#write(this.#buffer.subarray(0, this.#used))
    this.#written += this.#used
    this.#used = 0
  }
}
