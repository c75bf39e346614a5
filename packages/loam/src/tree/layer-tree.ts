import { type ErrorCode, LoamError } from '../errors/index.ts'
import type { TarEntry, TarEntryType } from '../tar/index.ts'
import {
  FileTree,
  type Inode,
  type InodeAttributes,
  NONE,
  ROOT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  S_LOWER_LINK,
} from './file-tree.ts'
import { DEFAULT_LAYER_LIMITS, type LayerLimits, MAX_NAME_BYTES, overLimit } from './limits.ts'
import { isDot, isDotDot, showName, splitPath, WHITEOUT_PREFIX } from './paths.ts'
import { checkXattrs } from './xattr-rules.ts'
import type { Xattr } from './xattr-sets.ts'

const WHITEOUT_META_PREFIX = Buffer.from('.wh..wh.')
const OPAQUE_NAME = Buffer.from('.wh..wh..opq')
const MAX_FOLLOWED_LINKS = 40
const MAX_REPORTED_NAMES = 10
const MAX_UINT32 = 0xffffffff

const MODE_OF_TYPE: Readonly<Record<Exclude<TarEntryType, 'hardlink'>, number>> = {
  file: S_IFREG,
  directory: S_IFDIR,
  symlink: S_IFLNK,
  character: S_IFCHR,
  block: S_IFBLK,
  fifo: S_IFIFO,
}

/** xattrs of a layer that are left out of its files. */
export interface LeftOutXattrs {
  /** Number of files that have fewer xattrs than in the archive. */
  readonly files: number
  /** Names of them, sorted, ten at most; all but printable ASCII is escaped. */
  readonly names: readonly string[]
}

/** Returns one line about the xattrs that files do not get. */
export function describeLeftOutXattrs({ files, names }: LeftOutXattrs): string {
  return `${files === 1 ? 'one file' : `${files} files`} without unsupported xattrs: ${names.join(', ')}`
}

/** The part of a path to a directory that a layer has. */
interface Way {
  readonly directory: Inode
  /** The rest of the path; empty at its end. */
  readonly rest: readonly Buffer[]
  /** Name of the file in the path that is not a directory. */
  readonly obstacle: Buffer | undefined
}

/**
 * Builds the tree of one layer from its tar entries, in their order. Every path is decided here, in memory, before
 * anything touches a disk: names that lead out are refused, and a symlink of the same layer is
 * resolved inside the tree. Later entries win over earlier ones; whiteouts are kept as marks and act on lower
 * layers alone, wherever in the layer they are (OCI image-spec layer.md).
 */
export class LayerTreeBuilder {
  readonly tree = new FileTree()
  readonly #limits: LayerLimits
  readonly #hasWhiteouts: boolean
  #entries = 0
  #xattrBytes = 0
  #filesWithLess = 0
  readonly #namesLeftOut = new Set<string>()

  /** Without whiteouts, names that begin with `.wh.` are names of files. */
  constructor(limits: LayerLimits = DEFAULT_LAYER_LIMITS, { hasWhiteouts = true } = {}) {
    this.#limits = limits
    this.#hasWhiteouts = hasWhiteouts
  }

  /** Returns the xattrs that were left out so far, undefined if there are none. */
  get leftOutXattrs(): LeftOutXattrs | undefined {
    if (this.#filesWithLess === 0) return undefined
    return { files: this.#filesWithLess, names: [...this.#namesLeftOut].toSorted() }
  }

  /** Adds the next entry. @throws TAR_UNSAFE, TAR_INVALID, LAYER_LIMIT; the tree must not be used after that */
  add(entry: TarEntry): void {
    this.#checkLimits(entry)
    const path = splitPath(entry.name)
    if (path === undefined) throw refuse(entry, 'its name points outside the root')
    if (path.length > this.#limits.depth)
      throw overLimit(`read layer entry ${showName(entry.name)}: it is too deep`, 'depth', this.#limits.depth)
    const name = path.pop()
    if (name === undefined) this.#addRoot(entry)
    else if (!this.#hasWhiteouts || !isOfAufs(path, name)) this.#addAt(entry, path, name)
  }

  #checkLimits(entry: TarEntry): void {
    const limits = this.#limits
    this.#entries += 1
    for (const { name, value } of entry.xattrs) this.#xattrBytes += name.length + value.length
    const exceed = (what: string, limit: 'entries' | 'xattrBytes' | 'fileBytes') =>
      overLimit(`read layer entry ${showName(entry.name)}: ${what}`, limit, limits[limit])
    if (this.#entries > limits.entries) throw exceed(`it is number ${this.#entries}`, 'entries')
    if (this.#xattrBytes > limits.xattrBytes) throw exceed('too many bytes of xattrs', 'xattrBytes')
    if (entry.sizeBytes > limits.fileBytes) throw exceed(`it claims ${entry.sizeBytes} bytes`, 'fileBytes')
    if (entry.uid < 0 || entry.uid >= MAX_UINT32 || entry.gid < 0 || entry.gid >= MAX_UINT32) {
      // 2^32 would become root by truncation, and 2^32-1 makes chown change nothing.
      throw refuse(entry, `its owner ${entry.uid}:${entry.gid} is out of range`)
    }
  }

  #addRoot(entry: TarEntry): void {
    if (entry.type !== 'directory') throw refuse(entry, `the root itself would become a ${entry.type}`)
    this.#describe(ROOT, entry)
  }

  #addAt(entry: TarEntry, path: readonly Buffer[], name: Buffer): void {
    const isWhiteout = this.#hasWhiteouts && name.indexOf(WHITEOUT_PREFIX) === 0
    // A whiteout is not a file of its name: the file that it hides may have a name of full length.
    const named = isWhiteout ? name.subarray(WHITEOUT_PREFIX.length) : name
    if (named.length > MAX_NAME_BYTES)
      throw refuse(entry, `a part of its name is longer than ${MAX_NAME_BYTES} bytes`)
    if (isWhiteout) {
      this.#addWhiteout(entry, path, name)
      return
    }
    const { directory: parent, obstacle } = this.#makeWay(path, entry)
    if (obstacle !== undefined)
      throw refuse(entry, `it is below ${showName(obstacle)}, which is not a directory in this layer`)
    if (entry.type === 'directory') this.#addDirectory(entry, parent, name)
    else if (entry.type === 'hardlink') this.#addHardLink(entry, parent, name)
    else this.tree.setEntry(parent, name, this.#createInode(entry, entry.type))
  }

  #addWhiteout(entry: TarEntry, path: readonly Buffer[], name: Buffer): void {
    // AUFS made whiteouts as hard links to one file, so both types are met in old images.
    if (entry.type !== 'file' && entry.type !== 'hardlink') {
      throw refuse(entry, `a whiteout that is a ${entry.type}`)
    }
    const hidden = name.subarray(WHITEOUT_PREFIX.length)
    if (hidden.length === 0 || isDot(hidden) || isDotDot(hidden))
      throw refuse(entry, 'a whiteout without a name')
    const { directory: parent, obstacle } = this.#makeWay(path, entry)
    // It hides everything below it, whichever of the two comes first.
    if (obstacle !== undefined) return
    if (name.equals(OPAQUE_NAME)) this.tree.markOpaque(parent)
    else this.tree.markWhiteout(parent, hidden)
  }

  #addDirectory(entry: TarEntry, parent: Inode, name: Buffer): void {
    const existing = this.tree.find(parent, name)
    if (existing !== NONE && this.tree.isDirectory(existing)) {
      this.#describe(existing, entry)
      return
    }
    const directory = this.tree.createDirectory(parent)
    this.tree.setEntry(parent, name, directory)
    this.#describe(directory, entry)
  }

  #describe(directory: Inode, entry: TarEntry): void {
    this.tree.setAttributes(directory, attributesOf(entry, S_IFDIR))
    this.tree.setXattrs(directory, this.#acceptedXattrs(entry, S_IFDIR))
    this.tree.setInherited(directory, false)
  }

  #addHardLink(entry: TarEntry, parent: Inode, name: Buffer): void {
    const path = splitPath(entry.linkName)
    const targetName = path?.pop()
    if (path === undefined || targetName === undefined) {
      throw refuse(entry, `its target ${showName(entry.linkName)} points outside the root`)
    }
    const { directory, rest } = this.#walk(ROOT, path, entry)
    // The target itself is not followed.
    const target = rest.length > 0 ? NONE : this.tree.find(directory, targetName)
    if (target === NONE || this.#isPathAlone(target, parent)) {
      const lower = joinPath([...this.#pathOf(directory), ...rest, targetName])
      const link = this.tree.createLink(attributesOf(entry, S_LOWER_LINK), lower)
      this.tree.setEntry(parent, name, link)
      return
    }
    if (this.tree.isDirectory(target)) {
      const isOfOwnPath = this.#isAbove(target, parent)
      throw refuse(
        entry,
        `its target ${showName(entry.linkName)} is a ${isOfOwnPath ? 'part of its own path' : 'directory'}`,
      )
    }
    // A link to itself changes nothing, and replacing it would free the file.
    if (this.tree.find(parent, name) !== target) this.tree.setEntry(parent, name, target)
  }

  /** A directory that only occurs in the path of a whiteout may be a file in lower layers: the merge decides. */
  #isPathAlone(target: Inode, parent: Inode): boolean {
    return this.tree.isDirectory(target) && this.tree.isInherited(target) && !this.#isAbove(target, parent)
  }

  #isAbove(directory: Inode, other: Inode): boolean {
    let current = other
    while (current !== directory && current !== ROOT) current = this.tree.parentOfDirectory(current)
    return current === directory
  }

  #pathOf(directory: Inode): Buffer[] {
    return directory === ROOT ? [] : [this.tree.entryPath(this.tree.entryOfDirectory(directory))]
  }

  #createInode(entry: TarEntry, type: Exclude<TarEntryType, 'hardlink' | 'directory'>): Inode {
    const attributes = attributesOf(entry, MODE_OF_TYPE[type])
    const inode = this.#createByType(entry, type, attributes)
    const xattrs = this.#acceptedXattrs(entry, MODE_OF_TYPE[type])
    if (xattrs.length > 0) this.tree.setXattrs(inode, xattrs)
    return inode
  }

  #acceptedXattrs(entry: TarEntry, type: number): readonly Xattr[] {
    if (entry.xattrs.length === 0) return entry.xattrs
    const { kept, leftOut } = checkXattrs(entry.xattrs, type | entry.mode)
    if (leftOut.length > 0) this.#filesWithLess += 1
    for (const name of leftOut) {
      if (this.#namesLeftOut.size < MAX_REPORTED_NAMES) this.#namesLeftOut.add(escapeName(name))
    }
    return kept
  }

  #createByType(
    entry: TarEntry,
    type: Exclude<TarEntryType, 'hardlink' | 'directory'>,
    attributes: InodeAttributes,
  ): Inode {
    if (type === 'file') {
      return this.tree.createFile(attributes, {
        layer: 0,
        sizeBytes: entry.sizeBytes,
        offset: entry.dataOffset,
        segments:
          entry.sparse === undefined
            ? undefined
            : Float64Array.from(entry.sparse.flatMap(({ offset, length }) => [offset, length])),
      })
    }
    if (type === 'symlink') {
      if (entry.linkName.length === 0 || entry.linkName.length > 4095) {
        throw refuse(entry, `a symlink with a target of ${entry.linkName.length} bytes`)
      }
      // Linux gives every symlink the same mode.
      return this.tree.createLink({ ...attributes, mode: S_IFLNK | 0o777 }, entry.linkName)
    }
    // Linux has 12 bits for the major and 20 for the minor number (linux/kdev_t.h).
    if (entry.deviceMajor > 0xfff || entry.deviceMinor > 0xfffff) {
      throw refuse(entry, `the device ${entry.deviceMajor}:${entry.deviceMinor} is out of range`)
    }
    return this.tree.createSpecial(attributes, entry.deviceMajor, entry.deviceMinor)
  }

  /** Walks to a directory, and creates missing ones as implicit directories. */
  #makeWay(path: readonly Buffer[], entry: TarEntry): Way {
    let way = this.#walk(ROOT, path, entry)
    for (
      let [name, ...rest] = way.rest;
      name !== undefined && way.obstacle === undefined;
      [name, ...rest] = way.rest
    )
      way = this.#walk(this.#makeImplicit(way.directory, name, entry), rest, entry)
    return way
  }

  /**
   * Follows the path to a directory as far as this layer has it, through its symlinks, inside the root: as in a chroot, `..` at the root
   * stays there and an absolute target starts there. Creates nothing.
   */
  #walk(from: Inode, path: readonly Buffer[], entry: TarEntry): Way {
    let directory = from
    let followed = 0
    const pending = path.toReversed()
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      const found = isDotDot(name) ? this.tree.parentOfDirectory(directory) : this.tree.find(directory, name)
      if (found !== NONE && this.tree.isDirectory(found)) {
        directory = found
      } else if (found !== NONE && this.tree.type(found) === S_IFLNK) {
        followed += 1
        if (followed > MAX_FOLLOWED_LINKS) throw refuse(entry, 'too many symlinks in its path')
        const target = this.tree.linkTarget(found)
        if (target[0] === 47) directory = ROOT
        pending.push(...splitLinkTarget(target).toReversed())
      } else {
        const rest = [name, ...pending.toReversed()]
        return { directory, rest, obstacle: found === NONE ? undefined : name }
      }
    }
    return { directory, rest: [], obstacle: undefined }
  }

  #makeImplicit(parent: Inode, name: Buffer, entry: TarEntry): Inode {
    if (name.length > MAX_NAME_BYTES)
      throw refuse(entry, `a part of its name is longer than ${MAX_NAME_BYTES} bytes`)
    const directory = this.tree.createDirectory(parent)
    this.tree.setInherited(directory, true)
    this.tree.setEntry(parent, name, directory)
    return directory
  }
}

function attributesOf(entry: TarEntry, type: number): InodeAttributes {
  return {
    mode: type | entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtimeSeconds: entry.mtimeSeconds,
    mtimeNanoseconds: entry.mtimeNanoseconds,
  }
}

/**
 * Returns whether an entry is AUFS's own data (`.wh..wh.aufs`, `.wh..wh.orph/`, `.wh..wh.plnk/` with their content) and not
 * content of the layer. An opaque mark is not.
 */
function isOfAufs(path: readonly Buffer[], name: Buffer): boolean {
  const isMeta = (part: Buffer) => part.indexOf(WHITEOUT_META_PREFIX) === 0
  return path.some(isMeta) || (isMeta(name) && !name.equals(OPAQUE_NAME))
}

/** A symlink's target may climb: the walk stops it at the root, as the kernel does in a chroot. */
function splitLinkTarget(target: Buffer): Buffer[] {
  return target
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .map((part) => Buffer.from(part, 'latin1'))
}

function escapeName(name: string): string {
  return name
    .slice(0, MAX_NAME_BYTES)
    .replace(/[^!-~]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

function joinPath(parts: readonly Buffer[]): Buffer {
  return Buffer.from(parts.map((part) => part.toString('latin1')).join('/'), 'latin1')
}

function refuse(entry: TarEntry, why: string): LoamError {
  const code: ErrorCode = 'TAR_UNSAFE'
  return new LoamError(code, `read layer entry ${showName(entry.name)}: ${why}`, {
    details: { entry: showName(entry.name), type: entry.type },
    hint: 'The image is damaged or hostile; nothing of this layer was kept.',
  })
}
