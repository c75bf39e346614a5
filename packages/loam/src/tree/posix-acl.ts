/*
 * POSIX ACLs as Linux has them in xattrs (include/uapi/linux/posix_acl_xattr.h), all numbers little-endian:
 *
 *   0        version, 2
 *   4 + 8n   an entry: tag and permissions of 16 bits each, and the id of a user or group
 */
const VERSION = 2
const HEADER_BYTES = 4
const ENTRY_BYTES = 8
const NO_ID = 0xffffffff

const USER_OBJ = 0x01
const USER = 0x02
const GROUP_OBJ = 0x04
const GROUP = 0x08
const MASK = 0x10
const OTHER = 0x20
/** The order that they come in; users and groups any number of times. */
const ORDER = [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER]

interface AclEntry {
  readonly tag: number
  readonly permissions: number
  readonly id: number
}

/**
 * Returns an ACL as Linux keeps it together with a mode, whose bits take precedence as in chmod; without a mode, unchanged. `refused`: Linux
 * does not accept it (posix_acl_valid in fs/posix_acl.c). `redundant`: it adds nothing to the mode, and is not kept.
 */
export function normalizeAcl(value: Buffer, mode: number | undefined): Buffer | 'refused' | 'redundant' {
  const entries = parse(value)
  if (entries === undefined) return 'refused'
  if (entries.length === 0) return 'redundant'
  if (!isValid(entries)) return 'refused'
  if (mode === undefined) return format(entries)
  const hasMask = entries.some(({ tag }) => tag === MASK)
  if (!hasMask && entries.length === 3) return 'redundant'
  const bitsOf = new Map([
    [USER_OBJ, (mode >>> 6) & 7],
    [hasMask ? MASK : GROUP_OBJ, (mode >>> 3) & 7],
    [OTHER, mode & 7],
  ])
  return format(
    entries.map((entry) => ({ ...entry, permissions: bitsOf.get(entry.tag) ?? entry.permissions })),
  )
}

/** Returns an ACL with other IDs of users and groups; unchanged if it is none. */
export function replaceAclIds(
  value: Buffer,
  { uid, gid }: { readonly uid: (id: number) => number; readonly gid: (id: number) => number },
): Buffer {
  const entries = parse(value)
  if (entries === undefined) return value
  return format(
    entries.map((entry) => {
      const replace = entry.tag === USER ? uid : gid
      return { ...entry, id: replace(entry.id) }
    }),
  )
}

function parse(value: Buffer): AclEntry[] | undefined {
  const bytes = value.length - HEADER_BYTES
  if (bytes < 0 || bytes % ENTRY_BYTES !== 0 || value.readUInt32LE(0) !== VERSION) return undefined
  return Array.from({ length: bytes / ENTRY_BYTES }, (_none, index) => {
    const at = HEADER_BYTES + index * ENTRY_BYTES
    return {
      tag: value.readUInt16LE(at),
      permissions: value.readUInt16LE(at + 2),
      id: value.readUInt32LE(at + 4),
    }
  })
}

function isValid(entries: readonly AclEntry[]): boolean {
  const places = entries.map(({ tag }) => ORDER.indexOf(tag))
  const isNamed = (tag: number) => tag === USER || tag === GROUP
  const inOrder = places.every((place, index) => {
    const before = places[index - 1] ?? -1
    return place > before || (place === before && isNamed(ORDER[place] ?? 0))
  })
  const has = (tag: number) => entries.some((entry) => entry.tag === tag)
  return (
    inOrder &&
    [USER_OBJ, GROUP_OBJ, OTHER].every(has) &&
    (has(MASK) || !entries.some(({ tag }) => isNamed(tag))) &&
    entries.every(({ tag, permissions, id }) => permissions <= 7 && !(isNamed(tag) && id === NO_ID))
  )
}

function format(entries: readonly AclEntry[]): Buffer {
  const value = Buffer.alloc(HEADER_BYTES + entries.length * ENTRY_BYTES)
  value.writeUInt32LE(VERSION, 0)
  for (const [index, { tag, permissions, id }] of entries.entries()) {
    const at = HEADER_BYTES + index * ENTRY_BYTES
    value.writeUInt16LE(tag, at)
    value.writeUInt16LE(permissions, at + 2)
    value.writeUInt32LE(tag === USER || tag === GROUP ? id : NO_ID, at + 4)
  }
  return value
}
