import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs'
import { isErrno, LoamError } from '../errors/index.ts'
import { readXattrs } from '../linux/index.ts'
import { formatTarHeader, type TarEntryInput, tarEnd, tarPadding } from '../tar/index.ts'

const WINDOW_BYTES = 1 << 20
const NANOSECONDS = 1_000_000_000n

/** How a folder's files are meant: as they are, or as an upper layer of overlayfs, whose marks become whiteouts. */
export type PackedAs = 'plain' | 'overlay'

const OVERLAY_XATTR = 'trusted.overlay.'
/** What overlayfs writes for files whose data, or whose children, stay in a lower layer. */
const MOVED_XATTRS: readonly string[] = ['trusted.overlay.redirect', 'trusted.overlay.metacopy']
const OPAQUE_XATTR = 'trusted.overlay.opaque'

/**
 * Writes a folder as it stands as one tar, names sorted; other file systems mounted in it are left out, and so are sockets. What changes
 * meanwhile comes in one of its states; a file that shrinks is filled with zeros. Memory: 1 MiB, and the names of hard links.
 */
export function packFolder(folder: string, write: (chunk: Buffer) => void, as: PackedAs = 'plain'): void {
  new FolderPacker(folder, write, as).run()
}

class FolderPacker {
  readonly #folder: Buffer
  readonly #write: (chunk: Buffer) => void
  readonly #as: PackedAs
  readonly #device: bigint
  readonly #firsts = new Map<string, Buffer>()
  readonly #window = Buffer.alloc(WINDOW_BYTES)

  constructor(folder: string, write: (chunk: Buffer) => void, as: PackedAs) {
    this.#as = as
    this.#folder = Buffer.from(folder)
    this.#write = write
    this.#device = lstatSync(folder, { bigint: true }).dev
  }

  run(): void {
    const pending: Buffer[] = [Buffer.alloc(0)]
    for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
      const stats = this.#stat(path)
      if (stats === undefined) continue
      // The root of the folder may be another file system than its files, as in an overlay.
      const isForeign = stats.isDirectory() && stats.dev !== this.#device
      this.#add(path, stats)
      if (!stats.isDirectory() || isForeign) continue
      const names = readdirSync(this.#full(path), { encoding: 'buffer' }).toSorted((a, b) => b.compare(a))
      for (const name of names)
        pending.push(path.length === 0 ? name : Buffer.concat([path, Buffer.from('/'), name]))
    }
    this.#write(tarEnd())
  }

  #full(path: Buffer): Buffer {
    return path.length === 0 ? this.#folder : Buffer.concat([this.#folder, Buffer.from('/'), path])
  }

  /** What was removed meanwhile is not there. */
  #stat(path: Buffer): BigIntStats | undefined {
    try {
      return lstatSync(this.#full(path), { bigint: true })
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined
      throw error
    }
  }

  #add(path: Buffer, stats: BigIntStats): void {
    const name = Buffer.concat([
      Buffer.from('./'),
      path,
      Buffer.from(stats.isDirectory() && path.length > 0 ? '/' : ''),
    ])
    const common = {
      name,
      mode: Number(stats.mode & 0o7777n),
      uid: Number(stats.uid),
      gid: Number(stats.gid),
      ...splitTime(stats.mtimeNs),
    }
    const key = `${stats.dev}:${stats.ino}`
    const first = stats.nlink > 1n && !stats.isDirectory() ? this.#firsts.get(key) : undefined
    if (first !== undefined) {
      this.#write(formatTarHeader({ ...common, type: 'hardlink', linkName: first }))
      return
    }
    if (stats.nlink > 1n) this.#firsts.set(key, name)
    if (this.#as === 'overlay' && stats.isCharacterDevice() && stats.rdev === 0n) {
      this.#addWhiteout(path)
      return
    }
    const input = { ...common, xattrs: this.#xattrsOf(path) }
    if (stats.isFile()) this.#addFile(path, input)
    else if (stats.isDirectory()) {
      this.#write(formatTarHeader({ ...input, type: 'directory' }))
      if (this.#isOpaque(path)) this.#addMark(Buffer.concat([name, Buffer.from('.wh..wh..opq')]))
    } else if (stats.isSymbolicLink()) {
      const linkName = readlinkSync(this.#full(path), { encoding: 'buffer' })
      this.#write(formatTarHeader({ ...input, type: 'symlink', linkName }))
    } else if (stats.isFIFO()) this.#write(formatTarHeader({ ...input, type: 'fifo' }))
    else if (stats.isCharacterDevice() || stats.isBlockDevice()) {
      const type = stats.isCharacterDevice() ? 'character' : 'block'
      this.#write(formatTarHeader({ ...input, ...splitDevice(stats.rdev), type }))
    }
  }

  /** What overlayfs keeps for itself is no part of the file. */
  #xattrsOf(path: Buffer): ReturnType<typeof readXattrs> {
    const xattrs = readXattrs(this.#full(path))
    const names = xattrs.map((xattr) => xattr.name.toString('latin1'))
    const odd = this.#as === 'overlay' ? names.find((name) => MOVED_XATTRS.includes(name)) : undefined
    if (odd !== undefined) {
      throw new LoamError(
        'SYSTEM',
        `pack ${this.#full(path).toString('utf8')}: ${odd} says that its data is elsewhere`,
        {
          hint: 'The folder was mounted with redirect_dir or metacopy, which no layer can express.',
        },
      )
    }
    return this.#as === 'plain'
      ? xattrs
      : xattrs.filter((xattr) => !xattr.name.toString('latin1').startsWith(OVERLAY_XATTR))
  }

  #isOpaque(path: Buffer): boolean {
    return (
      this.#as === 'overlay' &&
      readXattrs(this.#full(path)).some(
        (xattr) => xattr.name.toString('latin1') === OPAQUE_XATTR && xattr.value.toString('latin1') === 'y',
      )
    )
  }

  #addWhiteout(path: Buffer): void {
    const start = path.lastIndexOf(47) + 1
    this.#addMark(
      Buffer.concat([Buffer.from('./'), path.subarray(0, start), Buffer.from('.wh.'), path.subarray(start)]),
    )
  }

  #addMark(name: Buffer): void {
    this.#write(formatTarHeader({ type: 'file', name, mode: 0o600 }))
  }

  #addFile(path: Buffer, input: Omit<TarEntryInput, 'type'>): void {
    const fd = openSync(this.#full(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const sizeBytes = fstatSync(fd).size
      this.#write(formatTarHeader({ ...input, type: 'file', sizeBytes }))
      for (let position = 0; position < sizeBytes; ) {
        const part = this.#window.subarray(0, Math.min(WINDOW_BYTES, sizeBytes - position))
        const length = readSync(fd, part, 0, part.length, position)
        // It has become shorter than the header says.
        if (length === 0) part.fill(0)
        const bytes = length === 0 ? part : part.subarray(0, length)
        this.#write(bytes)
        position += bytes.length
      }
      this.#write(tarPadding(sizeBytes))
    } finally {
      closeSync(fd)
    }
  }
}

function splitTime(time: bigint): { mtimeSeconds: number; mtimeNanoseconds: number } {
  const nanoseconds = ((time % NANOSECONDS) + NANOSECONDS) % NANOSECONDS
  return {
    mtimeSeconds: Number((time - nanoseconds) / NANOSECONDS),
    mtimeNanoseconds: Number(nanoseconds),
  }
}

/** As glibc's gnu_dev_major and gnu_dev_minor. */
function splitDevice(device: bigint): { deviceMajor: number; deviceMinor: number } {
  return {
    deviceMajor: Number((device >> 8n) & 0xfffn),
    deviceMinor: Number((device & 0xffn) | ((device >> 12n) & 0xfff00n)),
  }
}
