/*
 * Creates a tree of files on disk. Every path was decided in the tree, so each name is created exactly once beneath a
 * descriptor of its directory, never opened if it exists, and never reached through a symlink: O_EXCL, O_NOFOLLOW,
 * mkdirat, symlinkat, linkat. In the kernel's order: owner first (chown clears setuid and capabilities), then
 * xattrs, then mode, then time. Directories get theirs at the end, because creating their content would change them.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import {
  AT_SYMLINK_NOFOLLOW,
  canGiveFiles,
  encodeTimes,
  isMachineRoot,
  type Libc,
  libc,
  O_CLOEXEC,
  overlayXattr,
} from '../linux/index.ts'
import {
  type Entry,
  type FileTree,
  type FolderContent,
  type Inode,
  isOwnerRecord,
  type Owner,
  recordOwner,
  LayerFolder,
  NONE,
  ROOT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  type Xattr,
} from '../tree/index.ts'
import { FileData } from './layer-data.ts'
import type { LayerFiles } from './layer-files.ts'
import { OpenDirectories } from './open-directories.ts'

const CANCEL_CHECK_ENTRIES = 256
const SPECIAL_TYPES: readonly number[] = [S_IFCHR, S_IFBLK, S_IFIFO]
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | O_CLOEXEC

export interface WriteTreeOptions {
  /** An empty directory. */
  readonly target: string
  /** By the layer numbers of the tree. */
  readonly layers: readonly LayerFiles[]
  /**
   * `plain` is the tree itself. `overlay` is one layer for overlayfs, as `LayerFolder` decides: whiteouts become devices
   * 0:0, opaque directories get `trusted.overlay.opaque`, or `user.overlay.opaque` in a user namespace.
   */
  readonly whiteouts: 'none' | 'overlay'
  /** Not zero when the work is to stop. */
  readonly canceled?: Int32Array | undefined
}

/** Creates the tree in the target. On failure the target contains a part of it: the caller removes it. @throws CANCELED and system errors that name the entry */
export function writeTree(tree: FileTree, options: WriteTreeOptions): void {
  using writer = new TreeWriter(tree, options)
  writer.run()
}

class TreeWriter implements Disposable {
  readonly #tree: FileTree
  readonly #options: WriteTreeOptions
  readonly #calls: Libc = libc()
  readonly #directories: OpenDirectories
  readonly #data: FileData
  readonly #folder: LayerFolder | undefined
  /** The entry that made each inode, for hard links. */
  readonly #made: Uint32Array
  readonly #name = Buffer.alloc(256)
  readonly #otherName = Buffer.alloc(256)
  readonly #times = Buffer.alloc(32)
  readonly #uid = process.geteuid?.() ?? 0
  readonly #gid = process.getegid?.() ?? 0
  /** Without root, or with one user only, all files belong to the user who creates them, and the owners of a tree are recorded. */
  readonly #isRootless = !canGiveFiles()
  /** Root of a user namespace may create neither devices nor trusted xattrs. */
  readonly #isMachineRoot = isMachineRoot()
  readonly #opaque: Xattr = { name: Buffer.from(overlayXattr('opaque')), value: Buffer.from('y') }

  constructor(tree: FileTree, options: WriteTreeOptions) {
    this.#tree = tree
    this.#options = options
    this.#made = new Uint32Array(tree.inodeCount).fill(NONE)
    this.#directories = new OpenDirectories(tree, options.target)
    this.#data = new FileData(options.layers)
    this.#folder = options.whiteouts === 'overlay' ? new LayerFolder(tree) : undefined
  }

  run(): void {
    for (let entry = 0; entry < this.#tree.entryCount; entry += 1) {
      if (entry % CANCEL_CHECK_ENTRIES === 0) this.#checkCanceled()
      const place = this.#placeOf(entry)
      if (place !== 'nothing') this.#attempt(entry, () => this.#make(entry, place))
    }
    // Children before parents: a directory of mode 0 is entered no more once it has its mode.
    for (let entry = this.#tree.entryCount - 1; entry >= 0; entry -= 1) {
      if (this.#placeOf(entry) === 'inode') this.#attempt(entry, () => this.#finishDirectory(entry))
    }
    // An opaque root needs no mark: the caller omits the layers below it.
    this.#describeDirectory(this.#directories.open(ROOT), ROOT, [])
  }

  #checkCanceled(): void {
    if (this.#options.canceled !== undefined && Atomics.load(this.#options.canceled, 0) !== 0) {
      throw new LoamError('CANCELED', `write ${this.#options.target}: canceled`)
    }
  }

  #placeOf(entry: Entry): FolderContent {
    if (this.#folder !== undefined) return this.#folder.contentOf(entry)
    return this.#tree.entryInode(entry) === NONE ? 'nothing' : 'inode'
  }

  #attempt(entry: Entry, act: () => void): void {
    try {
      act()
    } catch (error) {
      const path = this.#tree.entryPath(entry).toString('utf8')
      throw toLoamError(error, `write ${join(this.#options.target, path)}`)
    }
  }

  #make(entry: Entry, place: FolderContent): void {
    this.#directories.trim()
    const parent = this.#directories.open(this.#tree.entryParent(entry))
    this.#tree.copyEntryName(entry, this.#name)
    if (place === 'whiteout') {
      this.#calls.mknodat(parent, this.#name, S_IFCHR, 0n)
      return
    }
    const inode = this.#tree.entryInode(entry)
    const type = this.#tree.type(inode)
    const first = this.#made[inode] ?? NONE
    if (first !== NONE) {
      this.#makeHardLink(first, parent)
      return
    }
    this.#made[inode] = entry
    if (type === S_IFDIR) this.#calls.mkdirat(parent, this.#name, 0o700)
    else if (type === S_IFREG) this.#makeFile(parent, inode, entry)
    else this.#makeOther(parent, inode, type)
  }

  #makeHardLink(first: Entry, parent: number): void {
    const from = this.#directories.open(this.#tree.entryParent(first))
    this.#tree.copyEntryName(first, this.#otherName)
    this.#calls.linkat(from, this.#otherName, parent, this.#name, 0)
  }

  #makeFile(parent: number, inode: Inode, entry: Entry): void {
    const fd = this.#calls.openat(parent, this.#name, CREATE, 0o600)
    try {
      const data = this.#tree.fileData(inode)
      if (data.sizeBytes > 0 && !this.#clone(fd, data.layer, entry, data.sizeBytes)) {
        this.#data.copy(fd, data)
      }
      const attributes = this.#tree.attributes(inode)
      const owner = this.#giveTo(attributes, () => this.#calls.fchown(fd, attributes.uid, attributes.gid))
      for (const xattr of [...this.#xattrs(inode), ...owner]) this.#setXattr(fd, xattr)
      this.#calls.fchmod(fd, attributes.mode & 0o7777)
      encodeTimes(attributes.mtimeSeconds, attributes.mtimeNanoseconds, this.#times)
      this.#calls.futimens(fd, this.#times)
    } finally {
      closeSync(fd)
    }
  }

  /**
   * Gives a new file to its owner. Returns the xattr that says who that is, where this process may not: without root, and for an id
   * that does not exist in its user namespace (EINVAL).
   */
  #giveTo(owner: Owner, chown: () => void): Xattr[] {
    if (this.#isRootless) return recordOwner(owner)
    if (owner.uid === this.#uid && owner.gid === this.#gid) return []
    try {
      chown()
      return []
    } catch (error) {
      if (isErrno(error, 'EINVAL')) return recordOwner(owner)
      throw error
    }
  }

  /** An image does not say whom its files belong to but by their owners. */
  #xattrs(inode: Inode): readonly Xattr[] {
    const xattrs = this.#tree.xattrs(inode)
    return this.#isMachineRoot ? xattrs : xattrs.filter((xattr) => !isOwnerRecord(xattr))
  }

  #clone(fd: number, layer: number, entry: Entry, sizeBytes: number): boolean {
    const clonePath = this.#options.layers[layer]?.clonePath
    // A file that was hard-linked over layers may have another name in its own, and that name may be another file there.
    if (clonePath === undefined || this.#tree.isInherited(this.#tree.entryInode(entry))) return false
    return cloneFile(
      fd,
      Buffer.concat([Buffer.from(`${clonePath}/`), this.#tree.entryPath(entry)]),
      sizeBytes,
    )
  }

  #makeOther(parent: number, inode: Inode, type: number): void {
    const attributes = this.#tree.attributes(inode)
    if (type === S_IFLNK) {
      const target = Buffer.concat([this.#tree.linkTarget(inode), Buffer.alloc(1)])
      this.#calls.symlinkat(target, parent, this.#name)
    } else this.#makeSpecial(parent, inode, type)
    const { uid, gid } = attributes
    const owner = this.#giveTo(attributes, () =>
      this.#calls.fchownat(parent, this.#name, uid, gid, AT_SYMLINK_NOFOLLOW),
    )
    const xattrs = [...this.#xattrs(inode), ...owner]
    if (xattrs.length > 0) this.#setXattrsByName(parent, xattrs)
    // Linux has no mode of symlinks; other new entries beneath the descriptor are not symlinks.
    if (type !== S_IFLNK) this.#calls.fchmodat(parent, this.#name, attributes.mode & 0o7777, 0)
    encodeTimes(attributes.mtimeSeconds, attributes.mtimeNanoseconds, this.#times)
    this.#calls.utimensat(parent, this.#name, this.#times, AT_SYMLINK_NOFOLLOW)
  }

  /** Only root may create devices: without root an empty file replaces one, as in umoci. */
  #makeSpecial(parent: number, inode: Inode, type: number): void {
    if (!this.#isMachineRoot && (type === S_IFCHR || type === S_IFBLK)) {
      closeSync(this.#calls.openat(parent, this.#name, CREATE, 0o600))
      return
    }
    // A link into lower layers is nothing for a folder: whoever merges the layers has resolved it.
    if (!SPECIAL_TYPES.includes(type))
      throw new LoamError('INTERNAL', `a file of type 0o${type.toString(8)} is written to a folder`)
    const { major, minor } = this.#tree.device(inode)
    this.#calls.mknodat(parent, this.#name, type | 0o600, createDevice(major, minor))
  }

  #setXattrsByName(parent: number, xattrs: readonly Xattr[]): void {
    const end = this.#name.indexOf(0) + 1
    const path = Buffer.concat([Buffer.from(`/proc/self/fd/${parent}/`), this.#name.subarray(0, end)])
    for (const { name, value } of xattrs) {
      const key = Buffer.concat([name, Buffer.alloc(1)])
      this.#attemptXattr(name, () => this.#calls.lsetxattr(path, key, value, value.length, 0))
    }
  }

  #setXattr(fd: number, { name, value }: Xattr): void {
    const key = Buffer.concat([name, Buffer.alloc(1)])
    this.#attemptXattr(name, () => this.#calls.fsetxattr(fd, key, value, value.length, 0))
  }

  /** Without root capabilities, trusted xattrs, and all of symlinks and special files cannot be set. */
  #attemptXattr(name: Buffer, act: () => void): void {
    attemptXattr(name, act, !this.#isMachineRoot || isOwnerRecord({ name }))
  }

  #finishDirectory(entry: Entry): void {
    const inode = this.#tree.entryInode(entry)
    if (!this.#tree.isDirectory(inode)) return
    this.#directories.trim()
    const marks = this.#folder?.isOpaque(inode) === true ? [this.#opaque] : []
    const fd = this.#directories.open(inode)
    this.#directories.openAbove(inode)
    this.#describeDirectory(fd, inode, marks)
    this.#directories.close(inode)
  }

  #describeDirectory(fd: number, inode: Inode, marks: readonly Xattr[]): void {
    const attributes = this.#tree.attributes(inode)
    const owner = this.#giveTo(attributes, () => this.#calls.fchown(fd, attributes.uid, attributes.gid))
    for (const xattr of [...this.#xattrs(inode), ...owner, ...marks]) this.#setXattr(fd, xattr)
    this.#calls.fchmod(fd, attributes.mode & 0o7777)
    encodeTimes(attributes.mtimeSeconds, attributes.mtimeNanoseconds, this.#times)
    this.#calls.futimens(fd, this.#times)
  }

  [Symbol.dispose](): void {
    this.#directories[Symbol.dispose]()
    this.#data[Symbol.dispose]()
  }
}

function attemptXattr(name: Buffer, act: () => void, isOptional: boolean): void {
  try {
    act()
  } catch (error) {
    if (isOptional && isErrno(error, 'EPERM', 'EACCES', 'EOPNOTSUPP', 'ENOTSUP')) return
    const what = `set xattr ${name.toString('latin1')}`
    if (isErrno(error, 'ENOSPC', 'E2BIG', 'ERANGE')) {
      throw new LoamError('NO_SPACE', `${what}: this file system does not support xattrs of that size`, {
        cause: error,
      })
    }
    if (isErrno(error, 'EOPNOTSUPP', 'ENOTSUP')) {
      throw new LoamError('BACKEND_UNSUPPORTED', `${what}: this file system does not support such xattrs`, {
        cause: error,
        hint: 'Put --root on ext4, xfs or btrfs.',
      })
    }
    throw toLoamError(error, what)
  }
}

/** What another program has put in the place of a file may be a pipe, which nobody writes to. */
const CLONED = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | O_CLOEXEC

/** Shares the data of a file of a layer folder. Returns false when that is not possible; the file is then empty as before. */
function cloneFile(fd: number, path: Buffer, sizeBytes: number): boolean {
  let source: number
  try {
    source = openSync(path, CLONED)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG')) return false
    throw error
  }
  try {
    const stats = fstatSync(source)
    if (!stats.isFile() || stats.size !== sizeBytes) return false
    libc().ficlone(fd, source)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOTSUP', 'EXDEV', 'EINVAL', 'ENOTTY')) return false
    throw error
  } finally {
    closeSync(source)
  }
}

/** glibc's makedev: the kernel's 12 and 20 bits in the places where they grew. */
function createDevice(major: number, minor: number): bigint {
  return (BigInt(major) << 8n) | BigInt(minor & 0xff) | (BigInt(minor >>> 8) << 20n)
}
