import { isLoamError, LoamError } from '../errors/index.ts'
import {
  type ChainId,
  type DiffId,
  type Digest,
  parseChainId,
  parseDiffId,
  parseDigest,
} from '../image/index.ts'
import type { MountId } from '../linux/index.ts'
import { ancestorsOf, type ContainerId } from './container-id.ts'
import type { Database, Row } from './database.ts'
import { flag, integer, list, oneOf, optionalDigest, optionalInteger, optionalText, text } from './rows.ts'

/** Root filesystems with their layers: one statement, so that no other process removes one halfway. */
const ROOTFSES = `SELECT r.*, (
    SELECT json_group_array(diff_id ORDER BY position) FROM rootfs_layers WHERE uuid = r.uuid
  ) AS layers FROM rootfses r`
const IN_ORDER = 'ORDER BY r.created_at, r.uuid'

/** A container, which root filesystems are created for. `web/sidecar` is nested in `web`. */
export interface ContainerRecord {
  readonly id: ContainerId
  readonly parentId: ContainerId | undefined
  readonly createdAtMs: number
}

/**
 * The state of a root filesystem. `provisioning` is written before anything is created or mounted, `ready` when everything is in place, `destroying`
 * before anything is removed: after a crash the state says what may exist.
 */
const ROOTFS_STATES = ['provisioning', 'ready', 'destroying'] as const
/** The state of a root filesystem: only a `ready` one is complete. */
export type RootfsState = (typeof ROOTFS_STATES)[number]

/** A root filesystem of a container. */
export interface RootfsRecord {
  /** Id of this root filesystem. */
  readonly uuid: string
  /** Id of the container. */
  readonly containerId: ContainerId
  /** Its state. */
  readonly state: RootfsState
  /** Name of its backend. */
  readonly backend: string
  /** The requested name, normalised. */
  readonly reference: string
  /** Digest of the manifest of the image. */
  readonly imageDigest: Digest
  /** Names its stack of layers; undefined for an image without layers. */
  readonly chainId: ChainId | undefined
  /** Base first; these layers may not be removed. */
  readonly layers: readonly DiffId[]
  /** Absolute path of the root filesystem. */
  readonly rootfsPath: string
  /** Writable layers and other folders of this root filesystem alone. */
  readonly scratchPath: string
  /** Whether it is read-only. */
  readonly isReadOnly: boolean
  /** The bytes that may be written to it; undefined for no limit. */
  readonly sizeBytes: number | undefined
  /** The user namespace of its container, `UIDS/GIDS`; undefined for that of the host. */
  readonly idMapping: string | undefined
  /** Its target as a volume; undefined if it is not one. Without symlinks when it was recorded. */
  readonly volumeTarget: string | undefined
  /** Path of the root filesystem that the target is in, `/` for a directory of this machine; undefined if it is not a volume. */
  readonly volumeRoot: string | undefined
  /** The directory of the root filesystem that is mounted at the target; undefined for all of it. */
  readonly volumeSubPath: string | undefined
  /**
   * The mount of the volume, recorded before it is attached; undefined for none, and for rows of an older Loam. It is valid in the boot of `bootId`.
   */
  readonly volumeMount: MountId | undefined
  /** The boot in which it was last mounted. */
  readonly bootId: string
  /** When it was recorded, in milliseconds since 1970. */
  readonly createdAtMs: number
}

/** The containers and their root filesystems. */
export class ContainerTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  find(id: ContainerId): ContainerRecord | undefined {
    const row = this.#database.get('SELECT * FROM containers WHERE id = ?', id)
    return row === undefined ? undefined : toContainer(row)
  }

  /** Lists the IDs of containers, a parent before its children. */
  ids(): ContainerId[] {
    return this.#database.all('SELECT id FROM containers ORDER BY id').map((row) => storedId(text(row, 'id')))
  }

  children(id: ContainerId): ContainerRecord[] {
    return this.#database.all('SELECT * FROM containers WHERE parent_id = ? ORDER BY id', id).map(toContainer)
  }

  /**
   * Removes a container, including rows of root filesystems that cannot be read any more. Does not wait for the disk: after a power cut the
   * root filesystems are still `destroying`, and recovery removes the container again.
   */
  async remove(id: ContainerId): Promise<void> {
    await this.#database.visibleTransaction(() => {
      this.#database.run('DELETE FROM rootfses WHERE container_id = ?', id)
      this.#database.run('DELETE FROM containers WHERE id = ?', id)
    })
  }

  /**
   * Records a root filesystem, and its container and parents if they are new, in one transaction. Does not wait for the disk: after a power
   * cut none of it is mounted, and folders without a row are swept. `usesMount`: it uses the shared mount of its stack of layers, which is
   * kept for it; otherwise it uses the directories of its layers, and these are kept.
   */
  async putRootfs(rootfs: RootfsRecord, usesMount: boolean): Promise<void> {
    const db = this.#database
    await db.visibleTransaction(() => {
      let parentId: ContainerId | null = null
      for (const id of ancestorsOf(rootfs.containerId)) {
        const sql = 'INSERT OR IGNORE INTO containers (id, parent_id, created_at) VALUES (?, ?, ?)'
        db.run(sql, id, parentId, rootfs.createdAtMs)
        parentId = id
      }
      db.run(
        `INSERT INTO rootfses (uuid, container_id, state, backend, uses_mount, reference, image_digest, chain_id, rootfs_path,
           scratch_path, is_read_only, boot_id, created_at, volume_target, volume_root, volume_sub_path,
           volume_mount, id_mapping, size_bytes)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        rootfs.uuid,
        rootfs.containerId,
        rootfs.state,
        rootfs.backend,
        usesMount ? 1 : 0,
        rootfs.reference,
        rootfs.imageDigest,
        rootfs.chainId ?? null,
        rootfs.rootfsPath,
        rootfs.scratchPath,
        rootfs.isReadOnly ? 1 : 0,
        rootfs.bootId,
        rootfs.createdAtMs,
        rootfs.volumeTarget ?? null,
        rootfs.volumeRoot ?? null,
        rootfs.volumeSubPath ?? null,
        rootfs.volumeMount ?? null,
        rootfs.idMapping ?? null,
        rootfs.sizeBytes ?? null,
      )
      for (const [position, diffId] of rootfs.layers.entries()) {
        const sql = 'INSERT INTO rootfs_layers (uuid, position, diff_id) VALUES (?, ?, ?)'
        db.run(sql, rootfs.uuid, position, diffId)
      }
    })
  }

  /** Records that a root filesystem can be used. A power cut may lose that: then it is not mounted either. */
  async setReady(uuid: string, bootId: string): Promise<void> {
    await this.#database.visibleTransaction(() => {
      this.#setState(uuid, 'ready', bootId)
    })
  }

  /** Records that a root filesystem is being removed, and waits for the disk: a power cut must not bring half of it back. */
  async setDestroying(uuid: string, bootId: string): Promise<void> {
    await this.#database.durableTransaction(() => {
      this.#setState(uuid, 'destroying', bootId)
    })
  }

  #setState(uuid: string, state: RootfsState, bootId: string): void {
    this.#database.run('UPDATE rootfses SET state = ?, boot_id = ? WHERE uuid = ?', state, bootId, uuid)
  }

  /** Records the mount of a volume before it is attached; a mount that was never attached is just not found later. */
  async setVolumeMount(uuid: string, mount: MountId, bootId: string): Promise<void> {
    await this.#database.visibleTransaction(() => {
      const sql = 'UPDATE rootfses SET volume_mount = ?, boot_id = ? WHERE uuid = ?'
      this.#database.run(sql, mount, bootId, uuid)
    })
  }

  /** Removes a root filesystem. Does not wait for the disk, as `remove`. */
  async removeRootfs(uuid: string): Promise<void> {
    await this.#database.visibleTransaction(() => {
      this.#database.run('DELETE FROM rootfses WHERE uuid = ?', uuid)
    })
  }

  /** Lists root filesystems; those whose rows are damaged are left out. */
  rootfses(containerId?: ContainerId): RootfsRecord[] {
    return this.#read(containerId).flatMap((read) => (read instanceof LoamError ? [] : [read]))
  }

  /** Lists the problems of rows that cannot be read. */
  damaged(): { readonly uuid: string; readonly containerId: string; readonly reason: string }[] {
    return this.#database.all(`${ROOTFSES} ${IN_ORDER}`).flatMap((row) => {
      const read = readRow(row)
      if (!(read instanceof LoamError)) return []
      return [{ uuid: String(row['uuid']), containerId: String(row['container_id']), reason: read.message }]
    })
  }

  #read(containerId: ContainerId | undefined): (RootfsRecord | LoamError)[] {
    const rows =
      containerId === undefined
        ? this.#database.all(`${ROOTFSES} ${IN_ORDER}`)
        : this.#database.all(`${ROOTFSES} WHERE r.container_id = ? ${IN_ORDER}`, containerId)
    return rows.map(readRow)
  }

  /** Lists the containers that have a root filesystem of an image. */
  usersOfImage(digest: Digest): string[] {
    return this.#database
      .all('SELECT DISTINCT container_id FROM rootfses WHERE image_digest = ?', digest)
      .map((row) => text(row, 'container_id'))
  }

  /** Lists the ids of containers with a root filesystem that has a layer. */
  usersOfLayer(diffId: DiffId): string[] {
    return this.#database
      .all(
        'SELECT DISTINCT container_id FROM rootfs_layers JOIN rootfses USING (uuid) WHERE diff_id = ?',
        diffId,
      )
      .map((row) => text(row, 'container_id'))
  }
}

function readRow(row: Row): RootfsRecord | LoamError {
  try {
    return toRootfs(row)
  } catch (error) {
    if (isLoamError(error, 'DIGEST_INVALID', 'STORE_FORMAT')) return error
    throw error
  }
}

function toRootfs(row: Row): RootfsRecord {
  return {
    uuid: text(row, 'uuid'),
    containerId: storedId(text(row, 'container_id')),
    state: oneOf(row, 'state', ROOTFS_STATES),
    backend: text(row, 'backend'),
    reference: text(row, 'reference'),
    imageDigest: parseDigest(row['image_digest']),
    chainId: optionalDigest(row, 'chain_id', parseChainId),
    layers: list(row, 'layers').map((diffId) => parseDiffId(diffId)),
    rootfsPath: text(row, 'rootfs_path'),
    scratchPath: text(row, 'scratch_path'),
    isReadOnly: flag(row, 'is_read_only'),
    sizeBytes: optionalInteger(row, 'size_bytes'),
    idMapping: optionalText(row, 'id_mapping'),
    volumeTarget: optionalText(row, 'volume_target'),
    volumeRoot: optionalText(row, 'volume_root'),
    volumeSubPath: optionalText(row, 'volume_sub_path'),
    volumeMount: optionalText(row, 'volume_mount'),
    bootId: text(row, 'boot_id'),
    createdAtMs: integer(row, 'created_at'),
  }
}

function toContainer(row: Row): ContainerRecord {
  return {
    id: storedId(text(row, 'id')),
    parentId: row['parent_id'] === null ? undefined : storedId(text(row, 'parent_id')),
    createdAtMs: integer(row, 'created_at'),
  }
}

/** Stored ids were checked when they were recorded. */
function storedId(id: string): ContainerId {
  return id as ContainerId
}
