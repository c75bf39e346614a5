/*
 * Packs a folder as a tar. Each name is reached through a descriptor of its directory and no symlink is followed, so that what a
 * running container changes meanwhile never leads out of the folder. What a layer cannot say is refused, or left out and reported.
 */
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
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { isRoot, openDirectory, openDirectoryAt, readXattrs } from '../linux/index.ts'
import { formatTarHeader, type TarEntryInput, tarEnd, tarPadding, type TarXattr } from '../tar/index.ts'
import { judgeXattrs, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from '../tree/index.ts'
import { isOwnerRecord, recordedOwner } from './recorded-owner.ts'
import { findMovedMark, isUpperOpaque, isUpperWhiteout, shownXattrs } from './upper-marks.ts'

const WINDOW_BYTES = 1 << 20
const NANOSECONDS = 1_000_000_000n
const OPEN_FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
/** An entry that becomes something else while it is read is read again. */
const TRIES = 5
const CHANGED_ERRORS = ['ELOOP', 'ENOTDIR', 'ENXIO', 'ENODATA', 'ERANGE'] as const
const WHITEOUT_PREFIX = Buffer.from('.wh.')
const OPAQUE_NAME = Buffer.from('.wh..wh..opq')
const MAX_REPORTED = 100
const TYPE_BITS: Readonly<Record<TarEntryInput['type'], number>> = {
  file: S_IFREG,
  hardlink: S_IFREG,
  directory: S_IFDIR,
  symlink: S_IFLNK,
  character: S_IFCHR,
  block: S_IFBLK,
  fifo: S_IFIFO,
}
const MAX_PATH_BYTES = 4095
/** Readers, Go's and Loam's, take extended headers of 1 MiB; names and times are in them, too. */
const MAX_XATTR_BYTES = (1 << 20) - (16 << 10)
const XATTR_RECORD_BYTES = 24

/**
 * How a folder's files are meant:
 *   rootfs   as they are
 *   layer    as an unpacked layer: names that begin with `.wh.` are its marks
 *   overlay  as an upper folder of overlayfs, whose marks become whiteouts
 */
export type PackedAs = 'rootfs' | 'layer' | 'overlay'

/** What is not in the archive. */
export interface PackReport {
  /** One line each, for a person; at most 100 and one that counts the others. */
  readonly leftOut: readonly string[]
}

/**
 * Writes a folder as it stands as one tar, names sorted. Sockets, what is mounted in it and the xattrs that layers do not carry are left
 * out and reported; in an upper folder a socket hides what it has replaced. What changes meanwhile comes in one of its states; a file
 * that shrinks is filled with zeros. Memory: 1 MiB, and the names of hard links.
 * @throws LAYER_UNSUPPORTED for what no layer can hold, with the file; system errors that name the file
 */
export function packFolder(folder: string, write: (chunk: Buffer) => void, as: PackedAs): PackReport {
  return new FolderPacker(folder, write, as).run()
}

class FolderPacker {
  readonly #folder: string
  readonly #write: (chunk: Buffer) => void
  readonly #as: PackedAs
  readonly #firsts = new Map<string, Buffer>()
  readonly #window = Buffer.alloc(WINDOW_BYTES)
  readonly #leftOut: string[] = []
  #leftOutCount = 0
  #device = 0n

  constructor(folder: string, write: (chunk: Buffer) => void, as: PackedAs) {
    this.#folder = folder
    this.#write = write
    this.#as = as
  }

  run(): PackReport {
    const fd = openDirectory(this.#folder)
    try {
      this.#device = fstatSync(fd, { bigint: true }).dev
      this.#addDirectory(fd, Buffer.alloc(0))
    } finally {
      closeSync(fd)
    }
    this.#write(tarEnd())
    const others = this.#leftOutCount - this.#leftOut.length
    return { leftOut: others > 0 ? [...this.#leftOut, `and ${others} more`] : this.#leftOut }
  }

  #addDirectory(fd: number, path: Buffer): void {
    const stats = fstatSync(fd, { bigint: true })
    // The dot leads through the link of the descriptor.
    const xattrs = readXattrs(Buffer.concat([descriptorOf(fd), Buffer.from('/.')]))
    const name =
      path.length === 0 ? Buffer.from('./') : Buffer.concat([Buffer.from('./'), path, Buffer.from('/')])
    this.#addHeader(path, { ...describe(stats, name), type: 'directory' }, xattrs)
    // The root of a mount hides nothing, whatever its xattrs say.
    if (path.length > 0 && this.#as === 'overlay' && isUpperOpaque(xattrs)) {
      this.#addMark(Buffer.concat([name, OPAQUE_NAME]))
    }
    if (stats.dev !== this.#device) {
      this.#leaveOut(path, 'another file system is mounted there')
      return
    }
    const names = readdirSync(descriptorOf(fd), { encoding: 'buffer' }).toSorted((a, b) => a.compare(b))
    for (const child of names) {
      this.#addChild(fd, child, path.length === 0 ? child : Buffer.concat([path, Buffer.from('/'), child]))
    }
  }

  #addChild(parent: number, name: Buffer, path: Buffer): void {
    for (let tries = 1; ; tries += 1) {
      try {
        this.#addEntry(parent, name, path)
        return
      } catch (error) {
        // What was removed meanwhile is not there.
        if (isErrno(error, 'ENOENT')) return
        if ((error instanceof ReplacedError || isErrno(error, ...CHANGED_ERRORS)) && tries < TRIES) continue
        throw toLoamError(error, `pack ${this.#show(path)}`)
      }
    }
  }

  #addEntry(parent: number, name: Buffer, path: Buffer): void {
    const place = Buffer.concat([descriptorOf(parent), Buffer.from('/'), name])
    const stats = lstatSync(place, { bigint: true })
    const isReserved = name.indexOf(WHITEOUT_PREFIX) === 0
    if (this.#as === 'overlay' && isUpperWhiteout(stats, () => readXattrs(place))) {
      // No layer below can have such a name.
      if (!isReserved) this.#addWhiteout(path)
      return
    }
    if (isReserved && this.#as !== 'layer') {
      throw this.#refuse(path, 'in a layer a name that begins with .wh. removes another one', {
        hint: 'Rename it, or remove it.',
      })
    }
    if (stats.isDirectory()) this.#openDirectory(parent, name, path)
    else if (stats.isSocket()) {
      if (this.#as === 'overlay') this.#addWhiteout(path)
      this.#leaveOut(path, 'a layer cannot hold a socket')
    } else this.#addFileOrLink(place, path, stats)
  }

  #openDirectory(parent: number, name: Buffer, path: Buffer): void {
    const fd = openDirectoryAt(parent, Buffer.concat([name, Buffer.alloc(1)]))
    try {
      this.#addDirectory(fd, path)
    } finally {
      closeSync(fd)
    }
  }

  #addFileOrLink(place: Buffer, path: Buffer, stats: BigIntStats): void {
    const input = describe(stats, Buffer.concat([Buffer.from('./'), path]))
    const key = `${stats.dev}:${stats.ino}`
    const linkName = stats.nlink > 1n ? this.#firsts.get(key) : undefined
    if (linkName !== undefined) {
      this.#write(formatTarHeader({ ...input, type: 'hardlink', linkName }))
      return
    }
    if (stats.isFile()) this.#addFile(place, path, stats)
    else this.#addOther(place, path, { input, stats })
    if (stats.nlink > 1n) this.#firsts.set(key, input.name)
  }

  #addOther(
    place: Buffer,
    path: Buffer,
    { input, stats }: { input: ReturnType<typeof describe>; stats: BigIntStats },
  ): void {
    const xattrs = readXattrs(place)
    if (stats.isSymbolicLink()) {
      const linkName = readlinkSync(place, { encoding: 'buffer' })
      this.#addHeader(path, { ...input, type: 'symlink', linkName }, xattrs)
    } else if (stats.isFIFO()) this.#addHeader(path, { ...input, type: 'fifo' }, xattrs)
    else {
      const type = stats.isCharacterDevice() ? 'character' : 'block'
      this.#addHeader(path, { ...input, ...splitDevice(stats.rdev), type }, xattrs)
    }
  }

  #addFile(place: Buffer, path: Buffer, expected: BigIntStats): void {
    const fd = openSync(place, OPEN_FILE)
    try {
      const stats = fstatSync(fd, { bigint: true })
      if (!stats.isFile() || stats.ino !== expected.ino)
        throw new ReplacedError('it changes while it is read')
      const sizeBytes = Number(stats.size)
      const name = Buffer.concat([Buffer.from('./'), path])
      this.#addHeader(path, { ...describe(stats, name), type: 'file', sizeBytes }, readXattrs(place))
      this.#addData(fd, sizeBytes)
    } finally {
      closeSync(fd)
    }
  }

  #addData(fd: number, sizeBytes: number): void {
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
  }

  #addHeader(path: Buffer, input: TarEntryInput, found: readonly TarXattr[]): void {
    if (input.name.length > MAX_PATH_BYTES) {
      throw this.#refuse(path, `its path is longer than ${MAX_PATH_BYTES} bytes`, { hint: 'Remove it.' })
    }
    // Without root all files of a root filesystem are the caller's.
    const isRecorded = this.#as === 'rootfs' && !isRoot()
    const owner = isRecorded ? recordedOwner(found) : {}
    const own = isRecorded ? found.filter((xattr) => !isOwnerRecord(xattr)) : found
    this.#write(
      formatTarHeader({
        ...input,
        ...owner,
        xattrs: this.#keptXattrs(path, TYPE_BITS[input.type] | (input.mode ?? 0), own),
      }),
    )
  }

  #keptXattrs(path: Buffer, mode: number, found: readonly TarXattr[]): TarXattr[] {
    let xattrs = found
    if (this.#as === 'overlay') {
      const moved = findMovedMark(found)
      if (moved !== undefined) {
        throw this.#refuse(path, `${moved} says that its data is elsewhere`, {
          hint: 'It was mounted with redirect_dir or metacopy, which no layer can express.',
        })
      }
      xattrs = shownXattrs(found)
    }
    const { leftOut } = judgeXattrs(xattrs, mode)
    for (const name of leftOut) this.#leaveOut(path, `layers do not carry its xattr ${name}`)
    const kept = xattrs.filter(({ name }) => !leftOut.includes(name.toString('latin1')))
    this.#checkXattrs(path, kept)
    return kept
  }

  #checkXattrs(path: Buffer, xattrs: readonly TarXattr[]): void {
    // GNU tar and libarchive write %3D, which containerd, Docker, podman and umoci take for a part of the name.
    const unsaid = xattrs.find(({ name }) => name.includes('='))
    if (unsaid !== undefined) {
      const name = show(unsaid.name)
      throw this.#refuse(path, `the name of its xattr ${name} holds =, which ends a name in a tar`, {
        hint: 'Remove it: `setfattr -x NAME FILE`.',
      })
    }
    const bytes = xattrs.reduce(
      (sum, { name, value }) => sum + name.length + value.length + XATTR_RECORD_BYTES,
      0,
    )
    if (bytes > MAX_XATTR_BYTES) {
      throw this.#refuse(path, `it has ${bytes} bytes of xattrs, and tars hold ${MAX_XATTR_BYTES}`, {
        hint: 'Remove some: `setfattr -x NAME FILE`.',
      })
    }
  }

  #addWhiteout(path: Buffer): void {
    const start = path.lastIndexOf(47) + 1
    this.#addMark(
      Buffer.concat([Buffer.from('./'), path.subarray(0, start), WHITEOUT_PREFIX, path.subarray(start)]),
    )
  }

  #addMark(name: Buffer): void {
    this.#write(formatTarHeader({ type: 'file', name, mode: 0o600 }))
  }

  #leaveOut(path: Buffer, why: string): void {
    this.#leftOutCount += 1
    if (this.#leftOut.length < MAX_REPORTED) this.#leftOut.push(`left out /${show(path)}: ${why}`)
  }

  #refuse(path: Buffer, why: string, { hint }: { hint: string }): LoamError {
    return new LoamError('LAYER_UNSUPPORTED', `pack ${this.#show(path)}: ${why}`, { hint })
  }

  #show(path: Buffer): string {
    return `${this.#folder}/${show(path)}`
  }
}

class ReplacedError extends Error {}

function descriptorOf(fd: number): Buffer {
  return Buffer.from(`/proc/self/fd/${fd}`)
}

function describe(stats: BigIntStats, name: Buffer): Omit<TarEntryInput, 'type'> {
  return {
    name,
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    ...splitTime(stats.mtimeNs),
  }
}

function show(name: Buffer): string {
  return name.toString('utf8')
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
