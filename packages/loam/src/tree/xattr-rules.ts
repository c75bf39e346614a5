// Decides which xattrs of an archive become xattrs of files: those that Linux accepts for that type of file, as it would keep them.
import { normalizeAcl } from './posix-acl.ts'
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './file-tree.ts'
import type { Xattr } from './xattr-sets.ts'

/** Linux has 255 bytes for a name (XATTR_NAME_MAX) and EROFS 16 bits for the length of a value. */
const MAX_NAME_BYTES = 255
const MAX_VALUE_BYTES = 0xffff
/** The names of a file, each with a NUL, that Linux lists (XATTR_LIST_MAX). */
const MAX_LIST_BYTES = 65_536
/** EROFS keeps so many apart from their inode, whatever their size, and Loam adds some of its own to an index. */
const MAX_APART = 240
/** The xattrs behind one inode have 16 bits for their length in words. */
const MAX_BEHIND_BYTES = 200_000
const ENTRY_BYTES = 8

const CAPABILITY = 'security.capability'
const ACCESS_ACL = 'system.posix_acl_access'
const DEFAULT_ACL = 'system.posix_acl_default'
/**
 * The xattrs that overlayfs would interpret (`redirect` alone makes any directory of the image show another's files), and Loam's own marks
 * in a layer's metadata image.
 */
const OBEYED = /^(?:(?:trusted|user)\.overlay|trusted\.loam)\./
const NAMESPACES = /^(?:user|trusted|security)\.[^\0]+$/s

/** The decision about the xattrs of a file. */
export interface CheckedXattrs {
  readonly kept: readonly Xattr[]
  /** Names, as latin1 text. */
  readonly leftOut: readonly string[]
}

/**
 * Decides which xattrs a file of this mode (with its type) gets. Every backend then shows the same ones. Left out are:
 * namespaces that Linux does not have, `user.` on anything but regular files and directories, values that Linux refuses, xattrs
 * larger than EROFS or a listing can hold, and those that overlayfs or Loam would interpret.
 */
export function checkXattrs(xattrs: readonly Xattr[], mode: number): CheckedXattrs {
  if (xattrs.length === 0) return { kept: [], leftOut: [] }
  const leftOut: string[] = []
  const fitting = xattrs.flatMap((xattr) => {
    const name = xattr.name.toString('latin1')
    const value = checkXattr(name, xattr.value, mode)
    if (value === 'refused') leftOut.push(name)
    return value === 'refused' || value === 'redundant' ? [] : [{ name: xattr.name, value }]
  })
  const kept = limitSet(fitting)
  if (kept.length < fitting.length) {
    const isKept = new Set(kept)
    leftOut.push(...fitting.filter((xattr) => !isKept.has(xattr)).map(({ name }) => name.toString('latin1')))
  }
  return { kept, leftOut }
}

/** Returns the value to keep. */
function checkXattr(name: string, value: Buffer, mode: number): Buffer | 'refused' | 'redundant' {
  const type = mode & S_IFMT
  if (name.length > MAX_NAME_BYTES || value.length > MAX_VALUE_BYTES) return 'refused'
  if (name === ACCESS_ACL) return type === S_IFLNK ? 'refused' : normalizeAcl(value, mode)
  if (name === DEFAULT_ACL) return type === S_IFDIR ? normalizeAcl(value, undefined) : 'refused'
  if (!NAMESPACES.test(name) || OBEYED.test(name)) return 'refused'
  if (name.startsWith('user.') && type !== S_IFREG && type !== S_IFDIR) return 'refused'
  if (name === CAPABILITY && !isCapability(value)) return 'refused'
  return value
}

/** The versions that Linux sets (validheader in security/commoncap.c). */
function isCapability(value: Buffer): boolean {
  if (value.length !== 20 && value.length !== 24) return false
  const version = value.readUInt32LE(0) & ~1
  if (value.length === 20) return version === 0x02000000
  return version === 0x03000000 && value.readUInt32LE(20) !== 0xffffffff
}

/** Keeps the first by name as far as they can be listed, and the largest as far as they can be stored apart. */
function limitSet(xattrs: readonly Xattr[]): readonly Xattr[] {
  const bytes = xattrs.reduce((sum, xattr) => sum + sizeOf(xattr), 0)
  if (bytes <= MAX_LIST_BYTES) return xattrs
  let listBytes = 0
  const listed = xattrs
    .toSorted((a, b) => a.name.compare(b.name))
    .filter(({ name }) => (listBytes += name.length + 1) <= MAX_LIST_BYTES)
  let behindBytes = 0
  return listed
    .toSorted((a, b) => sizeOf(b) - sizeOf(a) || a.name.compare(b.name))
    .filter((xattr, index) => index < MAX_APART || (behindBytes += sizeOf(xattr)) <= MAX_BEHIND_BYTES)
}

function sizeOf({ name, value }: Xattr): number {
  return ENTRY_BYTES + name.length + value.length
}
