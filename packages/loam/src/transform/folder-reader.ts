/*
 * Reads a folder for packing. Each file is opened as a path first (`O_PATH`), examined, and read through that descriptor: whatever
 * a running container puts in the place of a name meanwhile is neither opened nor taken for what was seen; see `TreeWalk` for the way
 * through the folder. Files that a layer cannot contain are refused, or left out and reported.
 */
import { closeSync, constants, readSync } from 'node:fs'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import {
  FileStat,
  type IdMapping,
  libc,
  O_CLOEXEC,
  O_PATH,
  openDirectory,
  readXattrsOf,
  reopenRegular,
  TreeWalk,
} from '../linux/index.ts'
import { FileDescriber, type FolderFile, type FolderMeaning, type PackedAs } from './describe-file.ts'
import { isUpperOpaque, isUpperWhiteout } from './upper-marks.ts'

export type { FolderFile, PackedAs } from './describe-file.ts'

const OPEN_PATH = O_PATH | constants.O_NOFOLLOW | O_CLOEXEC
const WHITEOUT_PREFIX = Buffer.from('.wh.')
const MAX_REPORTED = 100
/** Longest line of a report, in characters: all lines have to fit into the trailer of an answer (1 MiB, percent-encoded). */
const MAX_LINE = 500
const MAX_TARGET_BYTES = 4096
/** A process may hold a lease on its file; the kernel takes it away after lease-break-time, 45 s. */
const MAX_LEASE_WAIT_MS = 60_000
const LEASE_WAIT_MS = 20

/** How a folder is gathered: an upper folder becomes the tree of a layer. */
export type GatheredAs = Exclude<PackedAs, 'layer' | 'files'>

/** Files and xattrs that were left out. */
export interface PackReport {
  /** One line each, for a person; at most 100 and one that counts the others. */
  readonly leftOut: readonly string[]
}

/** The data of a file, as it is opened now; the bytes that are missing at the end are zeros. */
export interface FolderData {
  readonly fd: number
  readonly sizeBytes: number
}

/** Receives the entries, depth first, names sorted: a directory before its content. A place is the sink's name of a file that may get other names. */
export interface FolderSink<Place> {
  /** Begins a directory; the first one is the folder itself. */
  readonly enter: (file: FolderFile) => void
  /** Goes up to the directory that is so deep; the folder itself is 0. */
  readonly leave: (depth: number) => void
  readonly addFile: (file: FolderFile, data: FolderData) => Place
  /** Adds a symlink, fifo or device; `target` is empty for the other two. */
  readonly addOther: (file: FolderFile, target: Buffer) => Place
  /** Gives one more name to a file. */
  readonly addLink: (file: FolderFile, place: Place) => void
  /** Says that a name of the layers below is removed; undefined: all names of this directory. */
  readonly addWhiteout: (name: Buffer | undefined) => void
}

export interface FolderReaderOptions<Place> {
  readonly as: FolderMeaning
  readonly sink: FolderSink<Place>
  /** Called before each file. */
  readonly check: () => void
  /** The user namespace of the container whose files they are. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
}

/**
 * Reads a folder as it stands into a sink. Sockets, mounts in it and the xattrs that layers do not carry are left out and reported;
 * in an upper folder a socket hides the file that it has replaced. A file that changes meanwhile has one of its states, one that vanishes is left out.
 * Memory: the names of the directories that it is in, and of hard links of which a name is still to come.
 * @throws LAYER_UNSUPPORTED for a file that no layer can contain; system errors that name the file
 */
export function readFolder<Place>(folder: string, options: FolderReaderOptions<Place>): PackReport {
  using walk = new TreeWalk(openDirectory(folder), 'sorted')
  return new FolderReader(folder, walk, options).run()
}

class FolderReader<Place> {
  readonly #folder: string
  readonly #walk: TreeWalk
  readonly #as: FolderMeaning
  readonly #sink: FolderSink<Place>
  readonly #check: () => void
  readonly #describer: FileDescriber
  /** Files that have more names than were met, by their identity. */
  readonly #linked = new Map<string, { readonly place: Place; missing: number }>()
  readonly #leftOut: string[] = []
  #leftOutCount = 0
  #leaseWaitMs = 0
  /** The folder, for messages. */
  #name: Buffer | undefined

  constructor(folder: string, walk: TreeWalk, options: FolderReaderOptions<Place>) {
    const { as, sink, check, idMapping } = options
    this.#folder = folder
    this.#walk = walk
    this.#as = as
    this.#sink = sink
    this.#check = check
    this.#describer = new FileDescriber(as, idMapping, {
      leaveOut: (why) => {
        this.#leaveOut(why)
      },
      report: (what) => {
        this.#add(`/${this.#path()} ${what}`)
      },
      refuse: (why, hint) => this.#refuse(why, hint),
    })
  }

  run(): PackReport {
    this.#attempt(() => {
      this.#sink.enter(this.#describer.describe(Buffer.alloc(0), this.#walk.top, this.#walk.fd).file)
    })
    for (;;) {
      const listed = this.#attempt(() => this.#walk.next())
      if (listed !== undefined) this.#addListed(Buffer.from(listed.name))
      else if (this.#walk.depth > 0) this.#leave()
      else break
    }
    const others = this.#leftOutCount - this.#leftOut.length
    return { leftOut: others > 0 ? [...this.#leftOut, `and ${others} more`] : this.#leftOut }
  }

  #leave(): void {
    this.#walk.leave()
    this.#sink.leave(this.#walk.depth)
  }

  #addListed(terminated: Buffer): void {
    this.#check()
    this.#name = terminated.subarray(0, -1)
    this.#attempt(() => {
      const pathFd = tryOpenPath(this.#walk.fd, terminated)
      if (pathFd === undefined) return
      try {
        this.#addEntry(terminated, pathFd)
      } finally {
        closeSync(pathFd)
      }
    })
    this.#name = undefined
  }

  #attempt<T>(act: () => T): T {
    try {
      return act()
    } catch (error) {
      throw toLoamError(error, `${this.#verb} ${this.#quotePath()}`)
    }
  }

  #addEntry(terminated: Buffer, pathFd: number): void {
    const name = terminated.subarray(0, -1)
    const stat = FileStat.of(pathFd)
    const isReserved = name.indexOf(WHITEOUT_PREFIX) === 0
    if (this.#as === 'overlay' && isUpperWhiteout(stat, () => readXattrsOf(pathFd))) {
      // No layer below can have such a name.
      if (!isReserved) this.#sink.addWhiteout(name)
      return
    }
    if (isReserved && (this.#as === 'rootfs' || this.#as === 'overlay')) {
      throw this.#refuse('a name that starts with .wh. is a whiteout in a layer', {
        hint: 'Rename it, or remove it.',
      })
    }
    if (!stat.isInMountOf(this.#walk.top)) this.#addMounted(name, stat)
    else if (stat.isDirectory) this.#addDirectory(terminated, stat, pathFd)
    else if (stat.isSocket && this.#as !== 'plain') {
      if (this.#as === 'overlay') this.#sink.addWhiteout(name)
      this.#leaveOut('a layer cannot hold a socket')
    } else this.#addFileOrLink(name, stat, pathFd)
  }

  /** Of a mount only the place comes, as a plain directory: not even its attributes are the container's. */
  #addMounted(name: Buffer, stat: FileStat): void {
    this.#leaveOut('something is mounted there')
    if (!stat.isDirectory) return
    this.#sink.enter({ name, stat: FileStat.ofPlainDirectory(), uid: 0, gid: 0, xattrs: [] })
    this.#sink.leave(this.#walk.depth)
  }

  #addDirectory(terminated: Buffer, stat: FileStat, pathFd: number): void {
    const { file, found } = this.#describer.describe(terminated.subarray(0, -1), stat, pathFd)
    this.#sink.enter(file)
    if (this.#as === 'overlay' && isUpperOpaque(found)) this.#sink.addWhiteout(undefined)
    // It is gone: then nothing is in it.
    if (!this.#walk.enter(terminated, pathFd)) this.#sink.leave(this.#walk.depth)
  }

  #addFileOrLink(name: Buffer, stat: FileStat, pathFd: number): void {
    const known = stat.links > 1 ? this.#linked.get(stat.identity) : undefined
    if (known !== undefined) {
      const owner = { uid: stat.uid, gid: stat.gid }
      this.#sink.addLink({ name, stat, ...this.#describer.toContainer(owner), xattrs: [] }, known.place)
      known.missing -= 1
      if (known.missing === 0) this.#linked.delete(stat.identity)
      return
    }
    const place = stat.isFile ? this.#addFile(name, pathFd) : this.#addOther(name, stat, pathFd)
    if (stat.links > 1) this.#linked.set(stat.identity, { place, missing: stat.links - 1 })
  }

  #addFile(name: Buffer, pathFd: number): Place {
    const fd = this.#open(pathFd)
    try {
      const stat = FileStat.of(fd)
      return this.#sink.addFile(this.#describer.describe(name, stat, fd).file, {
        fd,
        sizeBytes: stat.sizeBytes,
      })
    } finally {
      closeSync(fd)
    }
  }

  #open(pathFd: number): number {
    for (;;) {
      try {
        const opened = reopenRegular(pathFd, this.#name?.toString() ?? '')
        if (opened === undefined) throw replaced(`${this.#verb} ${this.#quotePath()}`)
        return opened.fd
      } catch (error) {
        if (!isErrno(error, 'EAGAIN')) throw error
        if (this.#leaseWaitMs >= MAX_LEASE_WAIT_MS) {
          throw new LoamError(
            'SYSTEM',
            `${this.#verb} ${this.#quotePath()}: processes hold leases on this file and others`,
            {
              cause: error,
              details: { errno: 'EAGAIN' },
              hint: 'Stop the processes in the container.',
            },
          )
        }
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LEASE_WAIT_MS)
        this.#leaseWaitMs += LEASE_WAIT_MS
        this.#check()
      }
    }
  }

  #addOther(name: Buffer, stat: FileStat, pathFd: number): Place {
    return this.#sink.addOther(
      this.#describer.describe(name, stat, pathFd).file,
      stat.isSymlink ? readTarget(pathFd) : Buffer.alloc(0),
    )
  }
  #leaveOut(why: string): void {
    this.#add(`left out /${this.#path()}: ${why}`)
  }

  #add(line: string): void {
    this.#leftOutCount += 1
    if (this.#leftOut.length < MAX_REPORTED) this.#leftOut.push(shorten(line))
  }

  /** Names the file as the user knows it, who has to change it: by its path in the tree. */
  #refuse(why: string, { hint }: { hint: string }): LoamError {
    return new LoamError('LAYER_UNSUPPORTED', `pack /${this.#path()}: ${why}`, { hint })
  }

  /** A folder that is known by its descriptor alone has no path that means something to a user. */
  #quotePath(): string {
    const isUnnamed = this.#as === 'plain' || this.#as === 'files'
    return `${isUnnamed ? '' : this.#folder}/${this.#path()}`
  }

  get #verb(): string {
    return this.#as === 'plain' ? 'copy' : 'pack'
  }

  #path(): string {
    return this.#walk.quotePath(this.#name)
  }
}

/** A container has put something else in its place between two looks at it. */
function replaced(attempted: string): LoamError {
  return new LoamError('SYSTEM', `${attempted}: it was a regular file, and is something else`, {
    details: { errno: 'ESTALE' },
    hint: 'Stop the processes in the container.',
  })
}

/** Opens the file of a name with O_PATH, which does not open its content. */
function tryOpenPath(dirFd: number, name: Buffer): number | undefined {
  try {
    return libc().openat(dirFd, name, OPEN_PATH, 0)
  } catch (error) {
    // It was removed meanwhile.
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** Reads the target of a symlink by its descriptor. */
export function readTarget(pathFd: number): Buffer {
  const target = Buffer.alloc(MAX_TARGET_BYTES)
  return Buffer.from(target.subarray(0, libc().readlinkat(pathFd, '', target, target.length)))
}

/** Reads a stretch of a file as `readPieces`. A file that has become shorter goes on with zeros. */
export function readStretch(
  data: FolderData,
  stretch: Stretch,
  window: Buffer,
  write: (chunk: Buffer) => void,
): void {
  for (let done = readPieces(data, stretch, window, write); done < stretch.bytes; ) {
    const part = window.subarray(0, Math.min(window.length, stretch.bytes - done))
    write(part.fill(0))
    done += part.length
  }
}

interface Stretch {
  readonly start: number
  readonly bytes: number
}

/** Reads a stretch of a file in pieces of the window's size at most, and returns its bytes: fewer if the file has become shorter. */
export function readPieces(
  { fd }: FolderData,
  { start, bytes }: Stretch,
  window: Buffer,
  write: (chunk: Buffer) => void,
): number {
  let done = 0
  while (done < bytes) {
    const part = window.subarray(0, Math.min(window.length, bytes - done))
    const length = readSync(fd, part, 0, part.length, start + done)
    if (length === 0) break
    write(part.subarray(0, length))
    done += length
  }
  return done
}

/** Leaves out the middle of a long line: the file's name and what is said of it stay. */
function shorten(line: string): string {
  const half = MAX_LINE / 2
  return line.length > MAX_LINE ? `${line.slice(0, half)}…${line.slice(-half)}` : line
}
