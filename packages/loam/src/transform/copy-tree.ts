/*
 * Copies files between a container and this machine. Both sides may change meanwhile: what is read is read as `readFolder` says, and each name is
 * made beneath a descriptor of its directory, never opened if it exists, and never reached through a symlink. A file gets its name when it is whole:
 * one that is canceled, or fails, leaves the old file as it was.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, constants, ftruncateSync, writeSync } from 'node:fs'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import {
  AT_SYMLINK_FOLLOW,
  encodeTimes,
  type FileOwner,
  FileStat,
  type IdMapping,
  type Libc,
  libc,
  O_CLOEXEC,
  O_PATH,
  openBeneath,
  openDirectoryAt,
  readXattrsOf,
  reopenRegular,
  toHostOwner,
} from '../linux/index.ts'
import { isOwnerRecord } from '../tree/index.ts'
import {
  type FolderData,
  type FolderFile,
  type FolderSink,
  type PackReport,
  readFolder,
  readPieces,
  readTarget,
} from './folder-reader.ts'
import { findStretches } from './gather-folder.ts'

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | O_CLOEXEC
/** A place that may be a symlink, which it is itself then. */
const OPEN_PLACE = O_PATH | constants.O_NOFOLLOW | O_CLOEXEC
const WINDOW_BYTES = 1 << 20
/** Directories in each other; each has an open descriptor. */
const MAX_DEPTH = 400
const PERMISSIONS = 0o1777
/** With the bits that give a program the rights of its owner. */
const ALL_BITS = 0o7777
const MAX_NOTES = 100

/** Where something else is mounted when the target is used: a file that is copied there would not be seen. */
export interface MountBelow {
  /** Parts of its path from a directory on; none for the directory itself. */
  readonly parts: readonly string[]
  /** Its path for a person. */
  readonly mount: string
}

export interface CopyTreeOptions {
  /** Descriptor of the file or directory to copy, which may be a path only (`O_PATH`). */
  readonly source: number
  /** Descriptor of the directory to copy to. */
  readonly target: number
  /** Name of the copy in that directory. Undefined: the content of a directory is copied into it. */
  readonly name: string | undefined
  /** Mounts beneath the target: what goes into them is left out and reported. */
  readonly mounts?: readonly MountBelow[] | undefined
  /** Owner of what is created. Undefined: that of the source, if `keepsOwners`, or this process's. */
  readonly owner: FileOwner | undefined
  /** The user namespace that owners of the source are in, which are kept. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
  /** Keep owners, extended attributes and the bits of setuid programs. */
  readonly keepsOwners: boolean
  /** Called before each file, and between the pieces of a large one. Throws to end the copy. */
  readonly check: () => void
}

/** Copies a file or a directory with its content. Devices, pipes and sockets are left out and reported. @throws USAGE for names that are in the way, system errors */
export function copyTree(options: CopyTreeOptions): PackReport {
  const { source, target, name, check } = options
  const stat = FileStat.of(source)
  const sink = new CopySink(options)
  try {
    if (stat.isDirectory) {
      sink.begin(name === undefined ? undefined : Buffer.from(name))
      const { leftOut } = readFolder(`/proc/self/fd/${source}/.`, { as: 'plain', sink, check })
      sink.end()
      return { leftOut: [...sink.notes, ...leftOut].slice(0, MAX_NOTES) }
    }
    if (name === undefined) throw new LoamError('INTERNAL', 'a file is copied without a name')
    sink.openAt(target)
    copyFile(sink, { name: Buffer.from(name), source, stat })
    return { leftOut: sink.notes }
  } finally {
    sink[Symbol.dispose]()
  }
}

function copyFile(
  sink: CopySink,
  { name, source, stat }: { readonly name: Buffer; readonly source: number; readonly stat: FileStat },
): void {
  const describe = (fd: number) => ({ name, stat, uid: stat.uid, gid: stat.gid, xattrs: readXattrsOf(fd) })
  if (!stat.isFile) {
    sink.addOther(describe(source), stat.isSymlink ? readTarget(source) : Buffer.alloc(0))
    return
  }
  const opened = reopenRegular(source, name.toString())
  if (opened === undefined) throw replaced(name)
  try {
    sink.addFile(describe(opened.fd), { fd: opened.fd, sizeBytes: opened.stats.size })
  } finally {
    closeSync(opened.fd)
  }
}

interface OpenDirectory {
  readonly fd: number
  /** Undefined: it was there before, and keeps its attributes. */
  readonly made: FolderFile | undefined
  readonly path: readonly Buffer[]
  readonly mounts: readonly MountBelow[]
  /** The mount that it is in: nothing is created there. */
  readonly covered: string | undefined
}

/** Creates what a reader finds. A place is the path of a file from the top directory of the copy. */
class CopySink implements FolderSink<readonly Buffer[]>, Disposable {
  readonly notes: string[] = []
  readonly #options: CopyTreeOptions
  readonly #calls: Libc = libc()
  readonly #directories: OpenDirectory[] = []
  readonly #times = Buffer.alloc(32)
  readonly #window = Buffer.alloc(WINDOW_BYTES)
  readonly #reported = new Set<string>()
  /** Name of the top directory, while it is not open. */
  #topName: Buffer | undefined

  constructor(options: CopyTreeOptions) {
    this.#options = options
  }

  begin(name: Buffer | undefined): void {
    this.#topName = name
  }

  /** Puts files into a directory that is there. */
  openAt(fd: number): void {
    this.#directories.push(this.#topAt(openDirectoryAt(fd, '.')))
  }

  /** Completes all directories. */
  end(): void {
    this.leave(-1)
  }

  enter(file: FolderFile): void {
    if (this.#directories.length > MAX_DEPTH) {
      throw new LoamError(
        'LAYER_LIMIT',
        `copy ${show(file.name)}: more than ${MAX_DEPTH} directories in each other`,
      )
    }
    if (this.#directories.length > 0) this.#enterNew(this.#here, file, file.name)
    else if (this.#topName === undefined) this.openAt(this.#options.target)
    else this.#enterNew(this.#topAt(this.#options.target), file, this.#topName)
  }

  #topAt(fd: number): OpenDirectory {
    return { fd, made: undefined, path: [], mounts: this.#options.mounts ?? [], covered: undefined }
  }

  #enterNew(above: OpenDirectory, file: FolderFile, name: Buffer): void {
    if (above.covered !== undefined) {
      this.#isLeftOut(name)
      this.#directories.push({ ...above, fd: openDirectoryAt(above.fd, '.'), made: undefined })
      return
    }
    const terminated = terminate(name)
    let made: FolderFile | undefined = file
    try {
      this.#calls.mkdirat(above.fd, terminated, 0o700)
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
      made = undefined
    }
    try {
      const path = this.#directories.length === 0 ? [] : [...above.path, name]
      const fd = openDirectoryAt(above.fd, terminated)
      this.#directories.push({ fd, made, path, ...mountsIn(above, name) })
    } catch (error) {
      if (!isErrno(error, 'ENOTDIR', 'ELOOP')) throw error
      throw inTheWay(name, 'a file', 'a directory')
    }
  }

  leave(depth: number): void {
    while (this.#directories.length > depth + 1) {
      const left = this.#directories.pop()
      if (left === undefined) return
      try {
        if (left.made !== undefined) this.#describe(left.fd, left.made)
      } finally {
        closeSync(left.fd)
      }
    }
  }

  addFile(file: FolderFile, data: FolderData): readonly Buffer[] {
    const { fd: parent, path } = this.#here
    if (this.#isLeftOut(file.name)) return []
    this.#make(file.name, (name) => {
      const fd = this.#calls.openat(parent, name, CREATE, 0o600)
      try {
        this.#write(fd, file.name, data)
        this.#describe(fd, file)
      } finally {
        closeSync(fd)
      }
    })
    return [...path, file.name]
  }

  #write(fd: number, name: Buffer, data: FolderData): void {
    const stretches = findStretches(data)
    let end = 0
    for (let index = 0; index < stretches.length; index += 2) {
      const [start = 0, bytes = 0] = stretches.subarray(index, index + 2)
      let position = start
      const length = readPieces(data, { start, bytes }, this.#window, (chunk) => {
        this.#options.check()
        for (let done = 0; done < chunk.length; )
          done += writeSync(fd, chunk, done, chunk.length - done, position + done)
        position += chunk.length
      })
      end = Math.max(end, position)
      if (length < bytes) break
    }
    // It may end in a hole, or have become shorter meanwhile: then it ends where it ends now, without zeros in the place of what is gone.
    const sizeBytes = Math.max(end, Math.min(data.sizeBytes, FileStat.of(data.fd).sizeBytes))
    ftruncateSync(fd, sizeBytes)
    if (sizeBytes < data.sizeBytes) this.#note(`${this.#pathOf(name)}: it became shorter while it was copied`)
  }

  addOther(file: FolderFile, target: Buffer): readonly Buffer[] {
    const { fd: parent, path } = this.#here
    if (this.#isLeftOut(file.name)) return []
    if (!file.stat.isSymlink) {
      this.#note(`left out ${this.#pathOf(file.name)}: it is a device, a pipe or a socket`)
      return []
    }
    this.#make(file.name, (name) => {
      this.#calls.symlinkat(terminate(target), parent, name)
      const fd = this.#calls.openat(parent, name, OPEN_PLACE, 0)
      try {
        if (!FileStat.of(fd).isSymlink) throw replaced(file.name)
        this.#describe(fd, file)
      } finally {
        closeSync(fd)
      }
    })
    return [...path, file.name]
  }

  addLink(file: FolderFile, place: readonly Buffer[]): void {
    if (this.#isLeftOut(file.name)) return
    if (place.length === 0) {
      this.#note(`left out ${this.#pathOf(file.name)}: its data were left out by another name`)
      return
    }
    const top = this.#directories[0]?.fd ?? -1
    const { fd: parent } = this.#here
    const from = openBeneath(top, joinPath(place), OPEN_PLACE)
    try {
      const link = pathOf(from)
      this.#make(file.name, (name) => this.#calls.linkat(-1, link, parent, name, AT_SYMLINK_FOLLOW))
    } finally {
      closeSync(from)
    }
  }

  addWhiteout(): void {
    // Only an upper folder of overlayfs has whiteouts.
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#directories.splice(0)) closeSync(fd)
  }

  /** Returns whether a name of the directory that is open is in a mount, or is one. Each mount is reported once. */
  #isLeftOut(name: Buffer): boolean {
    const { covered } = mountsIn(this.#here, name)
    if (covered === undefined) return false
    if (!this.#reported.has(covered))
      this.#note(`left out what goes to ${covered}: it is a mount of the container`)
    this.#reported.add(covered)
    return true
  }

  get #here(): OpenDirectory {
    const here = this.#directories.at(-1)
    if (here === undefined) throw new LoamError('INTERNAL', 'the copy is over')
    return here
  }

  /**
   * Makes a file by a name of its own, and gives it its name then: a file or symlink that has it is replaced. A directory stays, and so does a
   * device, pipe or socket, which is no copy of anything.
   */
  #make(name: Buffer, make: (terminated: Buffer) => void): void {
    const { fd: parent } = this.#here
    const terminated = terminate(name)
    const own = Buffer.from(`.loam-copy-${randomBytes(8).toString('hex')}\0`)
    this.#checkReplaceable(name)
    try {
      make(own)
      this.#calls.renameat2(parent, own, parent, terminated, 0)
    } catch (error) {
      this.#removeUnfinished(parent, own)
      if (isErrno(error, 'EISDIR')) throw inTheWay(name, 'a directory')
      throw toLoamError(error, `copy ${show(name)}`)
    }
  }

  #checkReplaceable(name: Buffer): void {
    try {
      const { isDirectory, isFile, isSymlink } = FileStat.at(this.#here.fd, terminate(name))
      if (isDirectory) throw inTheWay(name, 'a directory')
      if (!isFile && !isSymlink) throw inTheWay(name, 'a device, a pipe or a socket')
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw toLoamError(error, `copy ${show(name)}`)
    }
  }

  #removeUnfinished(parent: number, own: Buffer): void {
    try {
      this.#calls.unlinkat(parent, own, 0)
    } catch {
      // It was not made, or the reason of the failure is also that of this one.
    }
  }

  /** Describes a file of any type by a descriptor, which may be a path only. In the kernel's order: chown clears the bits of setuid programs. */
  #describe(fd: number, file: FolderFile): void {
    const { keepsOwners } = this.#options
    const path = pathOf(fd)
    const owner = this.#ownerOf(file)
    if (owner !== undefined) this.#calls.fchownat(-1, path, owner.uid, owner.gid, 0)
    if (keepsOwners) {
      // Loam's own records of owners say nothing about a copy.
      for (const xattr of file.xattrs) if (!isOwnerRecord(xattr)) this.#setXattr(path, file.name, xattr)
    }
    // Linux has no mode of symlinks.
    if (!file.stat.isSymlink)
      this.#calls.fchmodat(-1, path, file.stat.mode & (keepsOwners ? ALL_BITS : PERMISSIONS), 0)
    encodeTimes(file.stat.mtimeSeconds, file.stat.mtimeNanoseconds, this.#times)
    this.#calls.utimensat(-1, path, this.#times, 0)
  }

  /** A file system need not have all xattrs that another one has, and not all are for everybody. */
  #setXattr(path: Buffer, file: Buffer, { name, value }: FolderFile['xattrs'][number]): void {
    try {
      this.#calls.setxattr(path, terminate(name), value, value.length, 0)
    } catch (error) {
      if (!isErrno(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'ENOSPC', 'ERANGE', 'E2BIG'))
        throw error
      this.#note(`${this.#pathOf(file)}: its xattr ${name.toString('latin1')} cannot be set`)
    }
  }

  #ownerOf({ uid, gid }: FolderFile): FileOwner | undefined {
    const { owner, keepsOwners, idMapping } = this.#options
    if (!keepsOwners || owner !== undefined) return owner
    return idMapping === undefined ? { uid, gid } : toHostOwner(idMapping, { uid, gid })
  }

  /** `name`: of a file of the directory that is open; empty for this directory itself. */
  #pathOf(name: Buffer): string {
    const path = [...(this.#directories.at(-1)?.path ?? []), name].map((part) => part.toString())
    return `/${path.filter((part) => part !== '').join('/')}`
  }

  #note(text: string): void {
    if (this.notes.length < MAX_NOTES) this.notes.push(text)
  }
}

/** Returns the mounts from a name of a directory on. */
function mountsIn(
  { mounts, covered }: OpenDirectory,
  name: Buffer,
): Pick<OpenDirectory, 'mounts' | 'covered'> {
  if (mounts.length === 0 || covered !== undefined) return { mounts, covered }
  const first = name.toString()
  const below = mounts.filter(({ parts }) => parts[0] === first)
  const here = below.find(({ parts }) => parts.length === 1)
  return {
    mounts: below.map(({ parts, mount }) => ({ parts: parts.slice(1), mount })),
    covered: here?.mount,
  }
}

function inTheWay(name: Buffer, existing: string, what = 'a file'): LoamError {
  return new LoamError(
    'USAGE',
    `copy ${show(name)}: it is ${what}, and ${existing} has that name at the target`,
    {
      hint: 'Remove it first, or copy to another path.',
    },
  )
}

/** Something else has its name by now. */
function replaced(name: Buffer): LoamError {
  return new LoamError('SYSTEM', `copy ${show(name)}: another file has taken its place meanwhile`, {
    details: { errno: 'ESTALE' },
  })
}

/** The kernel follows this path to just the file of the descriptor, and no further when that is a symlink itself. */
function pathOf(fd: number): Buffer {
  return Buffer.from(`/proc/self/fd/${fd}\0`)
}

function terminate(name: Buffer): Buffer {
  return Buffer.concat([name, Buffer.alloc(1)])
}

function joinPath(parts: readonly Buffer[]): Buffer {
  return Buffer.concat(parts.flatMap((part, index) => (index === 0 ? [part] : [Buffer.from('/'), part])))
}

function show(name: Buffer): string {
  return JSON.stringify(name.toString())
}
