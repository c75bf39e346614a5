/** The file that a tar entry creates. Hard links name another entry; everything else is a node of its own. */
export type TarEntryType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo'

/** A stretch of a sparse file that has data; everything between stretches is zero. Both in bytes. */
export interface SparseSegment {
  readonly offset: number
  readonly length: number
}

/** One entry of the archive. Names, link targets and xattrs are bytes: nothing is decoded. */
export interface TarEntry {
  readonly type: TarEntryType
  readonly name: Buffer
  /** Target of a symlink or hard link, else empty. */
  readonly linkName: Buffer
  /** Permission bits, with setuid, setgid and sticky; no type bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Whole seconds since the epoch, rounded down; may be negative. */
  readonly mtimeSeconds: number
  /** 0 to 999,999,999, counted up from mtimeSeconds. */
  readonly mtimeNanoseconds: number
  readonly deviceMajor: number
  readonly deviceMinor: number
  readonly xattrs: readonly TarXattr[]
  /** Size of the file as it is unpacked, in bytes. */
  readonly sizeBytes: number
  /** Where the stored data starts, in bytes from the start of the archive. */
  readonly dataOffset: number
  /** Undefined for a file without holes: then its data are sizeBytes bytes at dataOffset. */
  readonly sparse: readonly SparseSegment[] | undefined
}

/** An extended attribute: its full name (`user.x`, `security.capability`) and its value. */
export interface TarXattr {
  readonly name: Buffer
  readonly value: Buffer
}
