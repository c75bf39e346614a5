// The owners of files of a container in a user namespace, as the container has them.
import {
  type FileOwner,
  type IdMapping,
  type IdRange,
  NOBODY,
  toContainerId,
  toContainerOwner,
} from '../linux/index.ts'
import type { TarXattr } from '../tar/index.ts'
import { replaceAclIds } from '../tree/index.ts'

const CAPABILITY = 'security.capability'
const ACLS = ['system.posix_acl_access', 'system.posix_acl_default']
/** struct vfs_ns_cap_data of linux/capability.h: the revision in the top byte of the first word, and the ID of root of a user namespace at the end. */
const REVISION_3 = 0x03000000
const REVISION_2 = 0x02000000
const REVISION_BITS = 0xff000000
const ROOT_ID_AT = 20
const REVISION_3_BYTES = 24

/** Translates IDs of this machine into those of a container. IDs that the container does not have become the ID of nobody. */
export class ContainerIds {
  readonly #mapping: IdMapping

  constructor(mapping: IdMapping) {
    this.#mapping = mapping
  }

  /** Returns whether an owner has IDs in the container. */
  has({ uid, gid }: FileOwner): boolean {
    const { uids, gids } = this.#mapping
    return toContainerId(uids, uid) !== undefined && toContainerId(gids, gid) !== undefined
  }

  owner(owner: FileOwner): FileOwner {
    return toContainerOwner(this.#mapping, owner)
  }

  /** Translates the IDs in ACLs and in the capabilities of a file. Undefined for capabilities of a user namespace whose root the container does not have. */
  xattr({ name, value }: TarXattr): TarXattr | undefined {
    const text = name.toString('latin1')
    if (ACLS.includes(text)) {
      const { uids, gids } = this.#mapping
      const uid = (id: number) => translate(uids, id)
      const gid = (id: number) => translate(gids, id)
      return { name, value: replaceAclIds(value, { uid, gid }) }
    }
    if (text !== CAPABILITY) return { name, value }
    const own = this.#capability(value)
    return own === undefined ? undefined : { name, value: own }
  }

  /** Capabilities for the container's own root are plain ones there. */
  #capability(value: Buffer): Buffer | undefined {
    if (value.length !== REVISION_3_BYTES) return value
    const word = value.readUInt32LE(0)
    if ((word & REVISION_BITS) >>> 0 !== REVISION_3) return value
    const root = toContainerId(this.#mapping.uids, value.readUInt32LE(ROOT_ID_AT))
    if (root === undefined) return undefined
    if (root !== 0) {
      const own = Buffer.from(value)
      own.writeUInt32LE(root, ROOT_ID_AT)
      return own
    }
    const plain = Buffer.from(value.subarray(0, ROOT_ID_AT))
    plain.writeUInt32LE(((word & ~REVISION_BITS) | REVISION_2) >>> 0, 0)
    return plain
  }
}

function translate(ranges: readonly IdRange[], id: number): number {
  return toContainerId(ranges, id) ?? NOBODY
}
