import { AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, libc } from './libc.ts'

const STATX_BASIC = 0x7ff
const STATX_MNT_ID = 0x1000
const STATX_ATTR_MOUNT_ROOT = 0x2000
const STATX_BYTES = 256
const S_IFMT = 0o170000
const S_IFDIR = 0o040000
const S_IFREG = 0o100000
const S_IFLNK = 0o120000
const S_IFSOCK = 0o140000
const S_IFCHR = 0o020000
const BLOCK_BYTES = 512

/** The result of statx(2) for a file; each field is read from the struct when it is used. */
export class FileStat {
  readonly #bytes: Buffer

  private constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Describes the file that a descriptor refers to, whichever file has its name now. */
  static of(fd: number): FileStat {
    return FileStat.#read(fd, '', AT_EMPTY_PATH)
  }

  /** Describes the file of a name in a directory, and follows no symlink; the name ends in NUL. */
  static at(dirFd: number, name: Buffer | string): FileStat {
    return FileStat.#read(dirFd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)
  }

  /** Describes a directory with unknown attributes: root's, mode 0755, time 0. */
  static ofPlainDirectory(): FileStat {
    const bytes = Buffer.alloc(STATX_BYTES)
    bytes.writeUInt16LE(S_IFDIR | 0o755, 28)
    return new FileStat(bytes)
  }

  static #read(dirFd: number, name: Buffer | string, flags: number): FileStat {
    // The kernel fills all of it.
    const bytes = Buffer.allocUnsafe(STATX_BYTES)
    libc().statx(dirFd, name, flags, STATX_BASIC | STATX_MNT_ID, bytes)
    return new FileStat(bytes)
  }

  /** Type and permission bits. */
  get mode(): number {
    return this.#bytes.readUInt16LE(28)
  }

  get isDirectory(): boolean {
    return this.#isOfType(S_IFDIR)
  }

  get isFile(): boolean {
    return this.#isOfType(S_IFREG)
  }

  get isSymlink(): boolean {
    return this.#isOfType(S_IFLNK)
  }

  get isSocket(): boolean {
    return this.#isOfType(S_IFSOCK)
  }

  get isCharacterDevice(): boolean {
    return this.#isOfType(S_IFCHR)
  }

  #isOfType(type: number): boolean {
    return (this.mode & S_IFMT) === type
  }

  get links(): number {
    return this.#bytes.readUInt32LE(16)
  }

  get uid(): number {
    return this.#bytes.readUInt32LE(20)
  }

  get gid(): number {
    return this.#bytes.readUInt32LE(24)
  }

  get sizeBytes(): number {
    return Number(this.#bytes.readBigUInt64LE(40))
  }

  /** Bytes that it uses on the disk. */
  get diskBytes(): number {
    return Number(this.#bytes.readBigUInt64LE(48)) * BLOCK_BYTES
  }

  get mtimeSeconds(): number {
    return Number(this.#bytes.readBigInt64LE(112))
  }

  get mtimeNanoseconds(): number {
    return this.#bytes.readUInt32LE(120)
  }

  /** The device number of a device file. */
  get device(): { readonly major: number; readonly minor: number } {
    return { major: this.#bytes.readUInt32LE(128), minor: this.#bytes.readUInt32LE(132) }
  }

  /** Identifies a file among all that exist at the same time. */
  get identity(): string {
    return `${this.#bytes.readBigUInt64LE(32)}:${this.#bytes.readUInt32LE(136)}:${this.#bytes.readUInt32LE(140)}`
  }

  /**
   * Returns whether both are in one mount. The device is not enough: a folder of the same file system may be mounted, and an overlay shows files
   * with separate devices. Before Linux 5.8 the devices of directories are compared.
   */
  isInMountOf(other: FileStat): boolean {
    if (this.knowsMount && other.knowsMount)
      return this.#bytes.readBigUInt64LE(144) === other.#bytes.readBigUInt64LE(144)
    return !this.isDirectory || this.#bytes.compare(other.#bytes, 136, 144, 136, 144) === 0
  }

  /** Whether the kernel told which mount it is in, as Linux does since 5.8. */
  get knowsMount(): boolean {
    return (this.#bytes.readUInt32LE(0) & STATX_MNT_ID) !== 0
  }

  /** Whether it is the root of a mount; undefined if the kernel does not know it, before Linux 5.8. */
  get isMountRoot(): boolean | undefined {
    // stx_attributes at 8 and stx_attributes_mask at 56, both of 64 bits
    if ((this.#bytes.readUInt32LE(56) & STATX_ATTR_MOUNT_ROOT) === 0) return undefined
    return (this.#bytes.readUInt32LE(8) & STATX_ATTR_MOUNT_ROOT) !== 0
  }
}
