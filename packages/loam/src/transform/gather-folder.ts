// Reads a folder into a file of its data and an index of its tree, from which disk images are made: no path is ever whole.
import { isErrno } from '../errors/index.ts'
import { type IdMapping, libc } from '../linux/index.ts'
import {
  type FileData,
  FileTree,
  type Inode,
  type InodeAttributes,
  ROOT,
  S_IFLNK,
  S_IFMT,
} from '../tree/index.ts'
import {
  type FolderData,
  type FolderFile,
  type FolderSink,
  type GatheredAs,
  type PackReport,
  readFolder,
  readStretch,
} from './folder-reader.ts'

const SLASH = Buffer.from('/')
const WINDOW_BYTES = 1 << 20
/** An index counts data in blocks of a tar. */
const BLOCK_BYTES = 512
const SEEK_DATA = 3
const SEEK_HOLE = 4
/** A file with more holes is taken whole. */
const MAX_STRETCHES = 1000

export interface GatherOptions {
  readonly as: GatheredAs
  /** The user namespace of the container whose files they are. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
  /** Takes the data of files, one after the other. */
  readonly write: (chunk: Buffer) => void
  /** Called before each file; the work ends with its error. */
  readonly check: () => void
}

/**
 * Reads a folder as it stands, as `readFolder` says. Holes stay holes. Returns the tree, whose data are in the written file. Memory:
 * 1 MiB, and the tree. @throws as `readFolder`
 */
export function gatherFolder(
  folder: string,
  { as, idMapping, write, check }: GatherOptions,
): PackReport & { readonly tree: FileTree } {
  const copier = new DataCopier(write)
  const sink = new TreeSink((data) => copier.copy(data))
  const report = readFolder(folder, { as, sink, check, idMapping })
  return { ...report, tree: sink.tree }
}

/** Where the data of a file are. */
type Place = Pick<FileData, 'offset' | 'segments'>

/** Writes the data of files one after the other, on blocks. */
class DataCopier {
  readonly #write: (chunk: Buffer) => void
  readonly #window = Buffer.alloc(WINDOW_BYTES)
  #writtenBytes = 0

  constructor(write: (chunk: Buffer) => void) {
    this.#write = (chunk) => {
      write(chunk)
      this.#writtenBytes += chunk.length
    }
  }

  copy(data: FolderData): Place {
    const { sizeBytes } = data
    const stretches = findStretches(data)
    const offset = this.#writtenBytes
    for (let index = 0; index < stretches.length; index += 2) {
      const [start = 0, bytes = 0] = stretches.subarray(index, index + 2)
      readStretch(data, { start, bytes }, this.#window, this.#write)
    }
    const rest = this.#writtenBytes % BLOCK_BYTES
    if (rest > 0) this.#write(Buffer.alloc(BLOCK_BYTES - rest))
    const isWhole = stretches.length === 2 && stretches[0] === 0 && stretches[1] === sizeBytes
    return { offset, segments: isWhole || sizeBytes === 0 ? undefined : stretches }
  }
}

/** Builds the tree of a folder. `place` says where the data of a file are; it gets the file's path in the folder. */
export class TreeSink implements FolderSink<Inode> {
  readonly tree = new FileTree()
  readonly #place: (data: FolderData, path: Buffer) => Place
  readonly #directories: { readonly inode: Inode; readonly path: Buffer }[] = []

  constructor(place: (data: FolderData, path: Buffer) => Place) {
    this.#place = place
  }

  get #directory(): Inode {
    return this.#directories.at(-1)?.inode ?? ROOT
  }

  enter(file: FolderFile): void {
    const { tree } = this
    if (this.#directories.length === 0) {
      tree.setAttributes(ROOT, attributesOf(file))
      tree.setXattrs(ROOT, file.xattrs)
      tree.setInherited(ROOT, false)
      this.#directories.push({ inode: ROOT, path: Buffer.alloc(0) })
      return
    }
    const inode = tree.createDirectory(this.#directory, attributesOf(file))
    this.#name(inode, file)
    this.#directories.push({ inode, path: Buffer.concat([this.#pathOf(file), SLASH]) })
  }

  leave(depth: number): void {
    this.#directories.length = depth + 1
  }

  addFile(file: FolderFile, data: FolderData): Inode {
    const { sizeBytes } = data
    const place = this.#place(data, this.#pathOf(file))
    const inode = this.tree.createFile(attributesOf(file), { layer: 0, sizeBytes, ...place })
    this.#name(inode, file)
    return inode
  }

  addOther(file: FolderFile, target: Buffer): Inode {
    const attributes = attributesOf(file)
    const { major, minor } = file.stat.device
    const isLink = (attributes.mode & S_IFMT) === S_IFLNK
    const inode = isLink
      ? this.tree.createLink(attributes, target)
      : this.tree.createSpecial(attributes, major, minor)
    this.#name(inode, file)
    return inode
  }

  addLink(file: FolderFile, inode: Inode): void {
    this.tree.setEntry(this.#directory, file.name, inode)
  }

  addWhiteout(name: Buffer | undefined): void {
    if (name === undefined) this.tree.markOpaque(this.#directory)
    else this.tree.markWhiteout(this.#directory, name)
  }

  #pathOf({ name }: FolderFile): Buffer {
    return Buffer.concat([this.#directories.at(-1)?.path ?? Buffer.alloc(0), name])
  }

  #name(inode: Inode, { name, xattrs }: FolderFile): void {
    this.tree.setXattrs(inode, xattrs)
    this.tree.setEntry(this.#directory, name, inode)
  }
}

function attributesOf({ stat, uid, gid }: FolderFile): InodeAttributes {
  const { mode, mtimeSeconds, mtimeNanoseconds } = stat
  return { mode, uid, gid, mtimeSeconds, mtimeNanoseconds }
}

/** Returns offset and length of each stretch of a file that has data. */
export function findStretches({ fd, sizeBytes }: FolderData): Float64Array {
  const whole = Float64Array.of(0, sizeBytes)
  const found: number[] = []
  for (let position = 0; position < sizeBytes; ) {
    const start = trySeek(fd, position, SEEK_DATA)
    if (start === undefined || start >= sizeBytes) break
    const end = Math.min(trySeek(fd, start, SEEK_HOLE) ?? sizeBytes, sizeBytes)
    if (end <= position || found.length >= 2 * MAX_STRETCHES) return whole
    found.push(start, end - start)
    position = end
  }
  return Float64Array.from(found)
}

/** Returns undefined behind the last one. */
function trySeek(fd: number, position: number, whence: number): number | undefined {
  try {
    return libc().lseek(fd, position, whence)
  } catch (error) {
    if (isErrno(error, 'ENXIO')) return undefined
    // A file system that does not report holes.
    if (isErrno(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP')) return whence === SEEK_DATA ? position : undefined
    throw error
  }
}
