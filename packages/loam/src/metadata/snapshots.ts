import { type ChainId, type DiffId, parseChainId, parseDiffId } from '../image/index.ts'
import type { Database, Row } from './database.ts'
import { exists, integer, oneOf, optionalDigest, optionalInteger, optionalText, text, texts } from './rows.ts'

/** `active` ones are written to, `view` ones are read, `committed` ones are the parents of both. */
const SNAPSHOT_KINDS = ['view', 'active', 'committed'] as const
/** The kind of a snapshot. */
export type SnapshotKind = (typeof SNAPSHOT_KINDS)[number]

declare const brand: unique symbol

/** Key of an active snapshot or a view, or name of a committed one, as in containerd. */
export type SnapshotKey = string & { readonly [brand]: 'SnapshotKey' }

/** Returns a text as the key of a snapshot. Any text is allowed; that of a new snapshot must not be empty. */
export function snapshotKey(name: string): SnapshotKey {
  return name as SnapshotKey
}

/** A snapshot: a change of a root filesystem, on a parent. */
export interface SnapshotRecord {
  /** Number of its folder; never reused. */
  readonly id: number
  readonly key: SnapshotKey
  readonly kind: SnapshotKind
  readonly parentId: number | undefined
  /** Key of the parent. */
  readonly parent: SnapshotKey | undefined
  readonly labels: Readonly<Record<string, string>>
  /** The user namespace whose IDs its own files have, `UIDS/GIDS`; undefined for that of the host. Kept by a commit. */
  readonly idMapping: string | undefined
  /** The bytes that may be written to an active one; undefined for no limit. */
  readonly maxBytes: number | undefined
  /** Microseconds since 1970. */
  readonly createdUs: number
  readonly updatedUs: number
  /** Disk usage of the folder of a committed one. */
  readonly sizeBytes: number
  readonly inodes: number
  /** The layer of the store that it consists of; undefined for one with a folder. */
  readonly diffId: DiffId | undefined
  /** The layer that was applied to an active one, which becomes that layer by a commit. */
  readonly appliedDiffId: DiffId | undefined
  /** The stack of layers that it is the top of, or that the lowest of its folders depends on. */
  readonly chainId: ChainId | undefined
}

export type NewSnapshot = Omit<SnapshotRecord, 'id' | 'parent' | 'updatedUs' | 'appliedDiffId'>

/** What a snapshot that is a layer has. */
type LayerColumns = {
  readonly [Name in 'diffId' | 'chainId']: NonNullable<SnapshotRecord[Name]>
} & Pick<SnapshotRecord, 'sizeBytes' | 'inodes' | 'updatedUs'>

const COLUMNS = 'SELECT s.*, p.key AS parent_key FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent_id'
const PAGE = 500

/** The snapshots. */
export class SnapshotTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  find(key: SnapshotKey): SnapshotRecord | undefined {
    const row = this.#database.get(`${COLUMNS} WHERE s.key = ?`, key)
    return row === undefined ? undefined : toSnapshot(row)
  }

  /** Finds a snapshot by the number of its folder. */
  get(id: number): SnapshotRecord | undefined {
    const row = this.#database.get(`${COLUMNS} WHERE s.id = ?`, id)
    return row === undefined ? undefined : toSnapshot(row)
  }

  /** Returns a snapshot and all its parents, itself first. */
  chain(id: number): SnapshotRecord[] {
    return this.#database
      .all(
        `WITH RECURSIVE up (id, depth) AS (
           VALUES (?, 0) UNION ALL SELECT s.parent_id, depth + 1 FROM snapshots s JOIN up ON s.id = up.id WHERE s.parent_id IS NOT NULL
         )
         SELECT s.*, p.key AS parent_key FROM up JOIN snapshots s ON s.id = up.id LEFT JOIN snapshots p ON p.id = s.parent_id ORDER BY up.depth`,
        id,
      )
      .map(toSnapshot)
  }

  /** Yields all snapshots in the order of their creation. Others may be created and removed meanwhile. */
  *list(): Generator<SnapshotRecord> {
    for (let last = 0; ; ) {
      const rows = this.#database.all(`${COLUMNS} WHERE s.id > ? ORDER BY s.id LIMIT ${PAGE}`, last)
      yield* rows.map(toSnapshot)
      const id = rows.at(-1)?.['id']
      if (typeof id !== 'number') return
      last = id
    }
  }

  hasChildren(id: number): boolean {
    const sql = 'SELECT EXISTS (SELECT 1 FROM snapshots WHERE parent_id = ?) AS found'
    return exists(this.#database.get(sql, id))
  }

  /** Returns whether there is a committed snapshot on this parent that its client says is a certain layer, whatever its name. */
  hasLayer(ref: SnapshotKey, parent: SnapshotKey | undefined): boolean {
    const sql = `SELECT EXISTS (
        SELECT 1 FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent_id
        WHERE s.kind = 'committed' AND CASE WHEN json_valid(s.labels) THEN json_extract(s.labels, '$."containerd.io/snapshot.ref"') END = ? AND p.key IS ?
      ) AS found`
    return exists(this.#database.get(sql, ref, parent ?? null))
  }

  /** Returns whether a snapshot with a mapping of IDs has another one, unpacked, below it. */
  isMappedFolderUsed(id: number, mappingKey: string): boolean {
    const sql = `WITH RECURSIVE below (id) AS (
        SELECT parent_id FROM snapshots WHERE id_mapping = ? AND kind <> 'committed' AND parent_id IS NOT NULL
        UNION SELECT s.parent_id FROM snapshots s JOIN below ON s.id = below.id WHERE s.parent_id IS NOT NULL
      )
      SELECT EXISTS (SELECT 1 FROM below WHERE id = ?) AS found`
    return exists(this.#database.get(sql, mappingKey, id))
  }

  /** Counts the snapshots of each kind. */
  counts(): Record<SnapshotKind, number> {
    const counts = { view: 0, active: 0, committed: 0 }
    for (const row of this.#database.all('SELECT kind, COUNT(*) AS count FROM snapshots GROUP BY kind'))
      counts[oneOf(row, 'kind', SNAPSHOT_KINDS)] = integer(row, 'count')
    return counts
  }

  ids(): Set<number> {
    return new Set(this.#database.all('SELECT id FROM snapshots').map((row) => integer(row, 'id')))
  }

  /** Runs a function as one transaction, and waits until that is on the disk; no other process writes while the function runs. */
  async transaction<T>(act: () => T): Promise<T> {
    return this.#database.durableTransaction(act)
  }

  /** Runs a function while no other process writes. Does not wait for the disk. */
  async exclusively<T>(act: () => T): Promise<T> {
    return this.#database.visibleTransaction(act)
  }

  /** Records a snapshot and returns its id. */
  insert(snapshot: NewSnapshot): number {
    const row = this.#database.get(
      `INSERT INTO snapshots (key, kind, parent_id, labels, created_us, updated_us, size_bytes, inodes, diff_id, chain_id, id_mapping, max_bytes)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
      snapshot.key,
      snapshot.kind,
      snapshot.parentId ?? null,
      JSON.stringify(snapshot.labels),
      snapshot.createdUs,
      snapshot.createdUs,
      snapshot.sizeBytes,
      snapshot.inodes,
      snapshot.diffId ?? null,
      snapshot.chainId ?? null,
      snapshot.idMapping ?? null,
      snapshot.maxBytes ?? null,
    )
    return integer(row ?? {}, 'id')
  }

  setLabels(id: number, labels: SnapshotRecord['labels'], updatedUs: number): void {
    this.#database.run(
      'UPDATE snapshots SET labels = ?, updated_us = ? WHERE id = ?',
      JSON.stringify(labels),
      updatedUs,
      id,
    )
  }

  /** Records the layer that was applied to an active snapshot. */
  setApplied(id: number, diffId: DiffId): void {
    this.#database.run('UPDATE snapshots SET applied_diff_id = ? WHERE id = ?', diffId, id)
  }

  /** Turns an active snapshot into a committed one of another name. */
  commit(id: number, committed: Omit<NewSnapshot, 'kind' | 'idMapping' | 'maxBytes'>): void {
    this.#database.run(
      `UPDATE snapshots SET key = ?, kind = 'committed', parent_id = ?, labels = ?, created_us = ?, updated_us = ?,
         size_bytes = ?, inodes = ?, diff_id = ?, chain_id = ?, applied_diff_id = NULL, max_bytes = NULL WHERE id = ?`,
      committed.key,
      committed.parentId ?? null,
      JSON.stringify(committed.labels),
      committed.createdUs,
      committed.createdUs,
      committed.sizeBytes,
      committed.inodes,
      committed.diffId ?? null,
      committed.chainId ?? null,
      id,
    )
  }

  /** Turns a committed snapshot with a directory into a layer. What is unpacked above it depends on this layer then. */
  becomeLayer(id: number, { diffId, chainId, sizeBytes, inodes, updatedUs }: LayerColumns): void {
    const sql = `UPDATE snapshots SET diff_id = ?, chain_id = ?, size_bytes = ?, inodes = ?, updated_us = ?,
        adopted_after = (SELECT MAX(id) FROM snapshots) WHERE id = ?`
    this.#database.run(sql, diffId, chainId, sizeBytes, inodes, updatedUs, id)
    this.#database.run(
      `WITH RECURSIVE above (id) AS (
         SELECT id FROM snapshots WHERE parent_id = ? AND diff_id IS NULL
         UNION SELECT s.id FROM snapshots s JOIN above ON s.parent_id = above.id WHERE s.diff_id IS NULL
       )
       UPDATE snapshots SET chain_id = ? WHERE id IN above`,
      id,
      chainId,
    )
  }

  /** Lists the IDs of the committed snapshots that are layers. */
  layers(): number[] {
    return this.#database
      .all(`SELECT id FROM snapshots WHERE kind = 'committed' AND diff_id IS NOT NULL`)
      .map((row) => integer(row, 'id'))
  }

  /** Returns whether an active snapshot or a view above a snapshot was created before that became a layer. IDs grow; clocks are set back. */
  hasOlderUser(id: number): boolean {
    const sql = `WITH RECURSIVE above (id) AS (
        SELECT id FROM snapshots WHERE parent_id = ?
        UNION SELECT s.id FROM snapshots s JOIN above ON s.parent_id = above.id
      )
      SELECT EXISTS (
        SELECT 1 FROM snapshots WHERE id IN above AND kind <> 'committed' AND id <= (SELECT adopted_after FROM snapshots WHERE id = ?)
      ) AS found`
    return exists(this.#database.get(sql, id, id))
  }

  remove(id: number): void {
    this.#database.run('DELETE FROM snapshots WHERE id = ?', id)
  }
}

function toKey(name: string | undefined): SnapshotKey | undefined {
  return name === undefined ? undefined : snapshotKey(name)
}

function toSnapshot(row: Row): SnapshotRecord {
  return {
    id: integer(row, 'id'),
    key: snapshotKey(text(row, 'key')),
    kind: oneOf(row, 'kind', SNAPSHOT_KINDS),
    parentId: optionalInteger(row, 'parent_id'),
    parent: toKey(optionalText(row, 'parent_key')),
    labels: texts(row, 'labels'),
    idMapping: optionalText(row, 'id_mapping'),
    maxBytes: optionalInteger(row, 'max_bytes'),
    createdUs: integer(row, 'created_us'),
    updatedUs: integer(row, 'updated_us'),
    sizeBytes: integer(row, 'size_bytes'),
    inodes: integer(row, 'inodes'),
    diffId: optionalDigest(row, 'diff_id', parseDiffId),
    appliedDiffId: optionalDigest(row, 'applied_diff_id', parseDiffId),
    chainId: optionalDigest(row, 'chain_id', parseChainId),
  }
}
