/*
 * Owners of files that this process may not give away, in the form of umoci's --rootless and of rootlesscontainers: the xattr
 * user.rootlesscontainers, a protobuf message of two numbers, uid (1) and gid (2). The highest id means "as it is" and represents root, the owner
 * of every file without this xattr (github.com/rootless-containers/proto).
 */
import type { TarXattr } from '../tar/index.ts'

const NAME = Buffer.from('user.rootlesscontainers')
const AS_IT_IS = 0xffffffff
const UID_FIELD = 1
const GID_FIELD = 2

export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Returns the xattr that says to whom a file belongs; none for root's. */
export function recordOwner({ uid, gid }: Owner): TarXattr[] {
  if (uid === 0 && gid === 0) return []
  const value = Buffer.concat([encodeField(UID_FIELD, uid), encodeField(GID_FIELD, gid)])
  return [{ name: NAME, value }]
}

/** Returns whom a file belongs to by its xattrs: root where they do not say it, or not in this form. */
export function recordedOwner(xattrs: readonly TarXattr[]): Owner {
  const value = xattrs.find(isOwnerRecord)?.value ?? Buffer.alloc(0)
  const owner = { [UID_FIELD]: 0, [GID_FIELD]: 0 }
  for (let at = 0; at < value.length; ) {
    const field = (value[at] ?? 0) >>> 3
    const { id, end } = decodeVarint(value, at + 1)
    if ((field !== UID_FIELD && field !== GID_FIELD) || end === undefined) return { uid: 0, gid: 0 }
    owner[field] = id === AS_IT_IS ? 0 : id
    at = end
  }
  return { uid: owner[UID_FIELD], gid: owner[GID_FIELD] }
}

export function isOwnerRecord({ name }: Pick<TarXattr, 'name'>): boolean {
  return NAME.equals(name)
}

function encodeField(field: number, id: number): Buffer {
  const bytes = [field << 3]
  let rest = id === 0 ? AS_IT_IS : id
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  return Buffer.from([...bytes, rest])
}

/** `end` is undefined for a number that is cut off or larger than an id. */
function decodeVarint(bytes: Buffer, start: number): { id: number; end: number | undefined } {
  let id = 0
  for (let index = 0; index < 5; index += 1) {
    const byte = bytes[start + index]
    if (byte === undefined) break
    id += (byte & 0x7f) * 2 ** (7 * index)
    if (byte < 0x80) return { id, end: id > AS_IT_IS ? undefined : start + index + 1 }
  }
  return { id: 0, end: undefined }
}
