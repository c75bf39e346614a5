// Packs a folder as a tar.
import { closeSync } from 'node:fs'
import { LoamError } from '../errors/index.ts'
import { FileStat, type IdMapping, reopenRegular } from '../linux/index.ts'
import { formatTarHeader, type TarEntryInput, tarEnd, tarPadding } from '../tar/index.ts'
import { FileDescriber } from './describe-file.ts'
import { entryTypeOf } from './entry-types.ts'
import {
  type FolderData,
  type FolderFile,
  type FolderSink,
  type PackedAs,
  type PackReport,
  readFolder,
  readStretch,
  readTarget,
} from './folder-reader.ts'

const WINDOW_BYTES = 1 << 20
/** Unpackers name each file by its whole path, and Linux accepts no longer one. */
const MAX_LAYER_PATH_BYTES = 4095
/** Readers, Go's and Loam's, take extended headers of 1 MiB; names, xattrs and times are in them. */
const MAX_HEADER_BYTES = (1 << 20) - (8 << 10)
const XATTR_RECORD_BYTES = 24
const OPAQUE_NAME = Buffer.from('.wh..wh..opq')
const WHITEOUT_PREFIX = Buffer.from('.wh.')
const SLASH = Buffer.from('/')
export interface PackOptions {
  readonly as: PackedAs
  /** The user namespace of the container whose files they are. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
  /** Later times of files are this one, in seconds since 1970. Undefined: they stay. */
  readonly latestSeconds?: number | undefined
  /** Name of the folder in the tar. Undefined: none. */
  readonly name?: string | undefined
  readonly write: (chunk: Buffer) => void
  /** Called before each file; the work ends with its error. */
  readonly check?: () => void
}

/**
 * Writes a folder as it stands as one tar, names sorted; see `readFolder` for its content. A file that shrinks is filled with zeros. Memory:
 * 1 MiB, and that of `readFolder`. A root filesystem may have paths that are longer than Linux takes at once, which is reported; a layer may not.
 * @throws LAYER_UNSUPPORTED for a file that no layer can contain; system errors that name the file
 */
export function packFolder(
  folder: string,
  { as, idMapping, latestSeconds = Infinity, name = '.', write, check = () => undefined }: PackOptions,
): PackReport {
  const sink = new TarSink({ as, write, latestSeconds, topName: `${name}/` })
  const { leftOut } = readFolder(folder, { as, sink, check, idMapping })
  write(tarEnd())
  return { leftOut: [...leftOut, ...sink.notes()] }
}

/** Writes a file, or a directory with its content, as one tar for a user. `source` is its descriptor, which may be a path only. @throws as `packFolder` */
export function packFiles(
  source: number,
  { name, idMapping, write, check = () => undefined }: Omit<PackOptions, 'as' | 'latestSeconds'>,
): PackReport {
  const stat = FileStat.of(source)
  const options = { as: 'files', idMapping, name, write, check } as const
  if (stat.isDirectory) return packFolder(`/proc/self/fd/${source}/.`, options)
  const report = packOne(source, stat, options)
  write(tarEnd())
  return report
}

function packOne(source: number, stat: FileStat, { name = '', idMapping, write }: PackOptions): PackReport {
  if (stat.isSocket) return { leftOut: [`left out ${name}: a tar cannot hold a socket`] }
  const sink = new TarSink({ as: 'files', write, latestSeconds: Infinity, topName: '' })
  const leftOut: string[] = []
  const describer = new FileDescriber('files', idMapping, {
    leaveOut: (why) => leftOut.push(`left out ${name}: ${why}`),
    report: (what) => leftOut.push(`${name} ${what}`),
    refuse: (why, { hint }) => refuse(Buffer.from(name), why, hint),
  })
  const describe = (fd: number) => describer.describe(Buffer.from(name), stat, fd).file
  if (!stat.isFile) {
    sink.addOther(describe(source), stat.isSymlink ? readTarget(source) : Buffer.alloc(0))
    return { leftOut }
  }
  const opened = reopenRegular(source, name)
  if (opened === undefined)
    throw new LoamError('SYSTEM', `pack ${name}: it is not a regular file any more`, {
      details: { errno: 'ESTALE' },
    })
  try {
    sink.addFile(describe(opened.fd), { fd: opened.fd, sizeBytes: opened.stats.size })
    return { leftOut }
  } finally {
    closeSync(opened.fd)
  }
}

/** A directory, with all that it is in; shared by the hard links in it. */
interface Directory {
  readonly above: Directory | undefined
  /** Ends in a slash. */
  readonly name: Buffer
  readonly pathBytes: number
}

interface Place {
  readonly directory: Directory | undefined
  readonly name: Buffer
}

class TarSink implements FolderSink<Place> {
  readonly #as: PackedAs
  readonly #write: (chunk: Buffer) => void
  readonly #latestSeconds: number
  readonly #topName: Buffer
  readonly #window = Buffer.alloc(WINDOW_BYTES)
  readonly #directories: Directory[] = []
  /** Of the directory that it is in; longer than that. */
  #path = Buffer.alloc(MAX_LAYER_PATH_BYTES)
  #longPaths = 0

  constructor({
    as,
    write,
    latestSeconds,
    topName,
  }: {
    readonly as: PackedAs
    readonly write: (chunk: Buffer) => void
    readonly latestSeconds: number
    readonly topName: string
  }) {
    this.#as = as
    this.#write = write
    this.#latestSeconds = latestSeconds
    this.#topName = Buffer.from(topName)
  }

  notes(): string[] {
    if (this.#longPaths === 0) return []
    return [
      `${this.#longPaths} paths are longer than ${MAX_LAYER_PATH_BYTES} bytes: most programs cannot unpack them`,
    ]
  }

  enter(file: FolderFile): void {
    const above = this.#directories.at(-1)
    const name = above === undefined ? this.#topName : Buffer.concat([file.name, SLASH])
    const start = above?.pathBytes ?? 0
    const pathBytes = start + name.length
    if (pathBytes > this.#path.length) this.#path = Buffer.concat([this.#path], 2 * pathBytes)
    name.copy(this.#path, start)
    this.#directories.push({ above, name, pathBytes })
    this.#addHeader(this.#path.subarray(0, pathBytes), file, {})
  }

  leave(depth: number): void {
    this.#directories.length = depth + 1
  }

  addFile(file: FolderFile, data: FolderData): Place {
    const place = this.#placeOf(file.name)
    const { sizeBytes } = data
    this.#addHeader(this.#pathOf(place), file, { sizeBytes })
    readStretch(data, { start: 0, bytes: sizeBytes }, this.#window, this.#write)
    this.#write(tarPadding(sizeBytes))
    return place
  }

  addOther(file: FolderFile, target: Buffer): Place {
    const place = this.#placeOf(file.name)
    const { major, minor } = file.stat.device
    this.#addHeader(this.#pathOf(place), file, {
      linkName: target,
      deviceMajor: major,
      deviceMinor: minor,
    })
    return place
  }

  addLink(file: FolderFile, place: Place): void {
    const linkName = this.#pathOf(place)
    this.#addHeader(this.#pathOf(this.#placeOf(file.name)), file, { type: 'hardlink', linkName })
  }

  addWhiteout(name: Buffer | undefined): void {
    const marked = name === undefined ? OPAQUE_NAME : Buffer.concat([WHITEOUT_PREFIX, name])
    this.#write(formatTarHeader({ type: 'file', name: this.#pathOf(this.#placeOf(marked)), mode: 0o600 }))
  }

  #placeOf(name: Buffer): Place {
    return { directory: this.#directories.at(-1), name }
  }

  #pathOf({ directory, name }: Place): Buffer {
    let start = directory?.pathBytes ?? 0
    if (directory === this.#directories.at(-1)) return Buffer.concat([this.#path.subarray(0, start), name])
    const path = Buffer.alloc(start + name.length)
    name.copy(path, start)
    for (let next = directory; next !== undefined; next = next.above) {
      start -= next.name.length
      next.name.copy(path, start)
    }
    return path
  }

  #addHeader(path: Buffer, file: FolderFile, more: Partial<TarEntryInput>): void {
    const { stat, uid, gid, xattrs } = file
    this.#checkSize(path, { ...file, linkBytes: more.linkName?.length ?? 0 })
    this.#write(
      formatTarHeader({
        type: entryTypeOf(stat.mode),
        name: path,
        mode: stat.mode & 0o7777,
        uid,
        gid,
        ...this.#timeOf(stat),
        xattrs,
        ...more,
      }),
    )
  }

  #timeOf({ mtimeSeconds, mtimeNanoseconds }: FolderFile['stat']) {
    return mtimeSeconds < this.#latestSeconds
      ? { mtimeSeconds, mtimeNanoseconds }
      : { mtimeSeconds: this.#latestSeconds, mtimeNanoseconds: 0 }
  }

  #checkSize(path: Buffer, { xattrs, linkBytes }: FolderFile & { readonly linkBytes: number }): void {
    const isLong = path.length > MAX_LAYER_PATH_BYTES
    if (isLong && this.#as !== 'rootfs' && this.#as !== 'files') {
      throw refuse(path, `its path is longer than ${MAX_LAYER_PATH_BYTES} bytes`, 'Remove it.')
    }
    if (isLong) this.#longPaths += 1
    const xattrBytes = xattrs.reduce(
      (sum, { name, value }) => sum + name.length + value.length + XATTR_RECORD_BYTES,
      0,
    )
    if (path.length + linkBytes + xattrBytes <= MAX_HEADER_BYTES) return
    if (xattrBytes > path.length + linkBytes) {
      throw refuse(
        path,
        `it has ${xattrBytes} bytes of xattrs, tars allow ${MAX_HEADER_BYTES} including its path`,
        'Remove some: `setfattr -x NAME FILE`.',
      )
    }
    throw refuse(
      path,
      `its path has ${path.length} bytes, tars allow ${MAX_HEADER_BYTES}`,
      'Export as erofs or ext4, which do not store full paths, or remove the file.',
    )
  }
}

function refuse(path: Buffer, why: string, hint: string): LoamError {
  const shown = path.length > 300 ? `${path.toString('utf8', 0, 300)}…` : path.toString('utf8')
  return new LoamError('LAYER_UNSUPPORTED', `pack ${shown}: ${why}`, { hint })
}
