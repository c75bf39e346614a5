import { ARTIFACT_KINDS, type ArtifactKind } from '../content/index.ts'
import { type ChainId, type DiffId, type Digest, parseDiffId, parseDigest } from '../image/index.ts'
import type { LayerSummary } from '../tree/index.ts'
import type { Database, Row } from './database.ts'
import type { LayerBlobRecord } from './origins.ts'
import { exists, flag, integer, oneOf, text } from './rows.ts'

/** A layer whose tar is in the store and was verified. */
export interface CompleteLayer extends LayerFacts {
  readonly data: 'complete'
}

/** A layer whose tree is known, and whose tar is a sparse file of full length that is filled as it is read. */
export interface PartialLayer extends LayerFacts {
  readonly data: 'partial'
}

/** A layer of the store. Reading its data needs a `CompleteLayer`; the length of its tar does not show whether it is one. */
export type LayerRecord = CompleteLayer | PartialLayer

interface LayerFacts {
  readonly diffId: DiffId
  readonly tarBytes: number
  readonly summary: LayerSummary
  readonly createdAtMs: number
}

/** Where the data of a partial layer comes from, and who vouches for its tree. */
export interface LazySource {
  readonly diffId: DiffId
  /** Its blob, as the image's manifest has it. */
  readonly blob: LayerBlobRecord
  /** Name of the source that its image was requested from. */
  readonly reference: string
  /** Digest of its lazy index. */
  readonly indexDigest: Digest
  /** Why the index is trusted: a rule of the setting `lazy_trust`. */
  readonly trustedBy: string
}

/** A layer itself (`tar`), or an artifact that was derived from it (`meta`, `unpacked`) or from a stack of layers (`merged`, `fixup`, `flat`). */
export interface ArtifactRecord {
  /** The diffID or chainID that it belongs to. */
  readonly owner: Digest
  readonly kind: ArtifactKind
  /** The boot in which it was built. */
  readonly bootId: string
  /** Whether its files are known to be on the disk; otherwise it is valid in that boot only. */
  readonly isDurable: boolean
  readonly createdAtMs: number
  /** The `TREE_GENERATION` that it was built by. */
  readonly generation: number
}

/** The layers, and the artifacts that are built from them. */
export class LayerTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Records a layer with its artifacts, in one transaction. Does not wait for the disk: a layer that a power cut loses is fetched again. */
  async put(layer: LayerRecord, artifacts: readonly ArtifactRecord[]): Promise<void> {
    await this.#database.visibleTransaction(() => {
      this.#insertLayer(layer, artifacts)
    })
  }

  /** The same for a layer whose data was fetched. What is known of where it came from lazily goes, unless the index beside it is still that one. */
  async putFetched(
    layer: CompleteLayer,
    artifacts: readonly ArtifactRecord[],
    keepsSource: boolean,
  ): Promise<void> {
    await this.#database.visibleTransaction(() => {
      this.#insertLayer(layer, artifacts)
      if (!keepsSource) this.#database.run('DELETE FROM partial_layers WHERE diff_id = ?', layer.diffId)
    })
  }

  #insertLayer(layer: LayerRecord, artifacts: readonly ArtifactRecord[]): void {
    this.#database.run(
      `INSERT INTO layers (diff_id, tar_bytes, summary, created_at, is_complete) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (diff_id) DO UPDATE SET tar_bytes = excluded.tar_bytes, summary = excluded.summary,
         created_at = excluded.created_at, is_complete = excluded.is_complete`,
      layer.diffId,
      layer.tarBytes,
      JSON.stringify(layer.summary),
      layer.createdAtMs,
      layer.data === 'complete' ? 1 : 0,
    )
    for (const artifact of artifacts) this.#insertArtifact(artifact)
  }

  /** Records a partial layer, where its data comes from, and its metadata image. Does not wait for the disk. */
  async putPartial(layer: PartialLayer, source: LazySource, meta: ArtifactRecord): Promise<void> {
    await this.#database.visibleTransaction(() => {
      this.#insertPartial(layer, source, meta)
    })
  }

  /** The same for a layer that was complete, and is on the disk when this returns: its tar may be given up then. */
  async makePartial(layer: PartialLayer, source: LazySource, meta: ArtifactRecord): Promise<void> {
    await this.#database.durableTransaction(() => {
      this.#insertPartial(layer, source, meta)
    })
  }

  #insertPartial(layer: PartialLayer, source: LazySource, meta: ArtifactRecord): void {
    this.#database.run("DELETE FROM artifacts WHERE owner = ? AND kind = 'tar'", layer.diffId)
    this.#insertLayer(layer, [meta])
    this.#database.run(
      `INSERT OR REPLACE INTO partial_layers
         (diff_id, blob_digest, blob_media_type, blob_bytes, reference, index_digest, trusted_by) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      source.diffId,
      source.blob.digest,
      source.blob.mediaType,
      source.blob.sizeBytes,
      source.reference,
      source.indexDigest,
      source.trustedBy,
    )
  }

  /** Sums the sizes of the tars of each image's layers, each layer once. Images without layers are left out. */
  tarBytesOf(images: readonly Digest[]): Map<Digest, number> {
    const sql = `SELECT image_digest, sum(tar_bytes) AS bytes
      FROM (SELECT DISTINCT image_digest, diff_id FROM image_layers
            WHERE image_digest IN (SELECT value FROM json_each(?))) JOIN layers USING (diff_id)
      GROUP BY image_digest`
    const rows = this.#database.all(sql, JSON.stringify(images))
    return new Map(rows.map((row) => [parseDigest(row['image_digest']), integer(row, 'bytes')]))
  }

  /** Returns where the data of a layer comes from that is partial, or was before it was complete. */
  partialSource(diffId: DiffId): LazySource | undefined {
    const row = this.#database.get('SELECT * FROM partial_layers WHERE diff_id = ?', diffId)
    return row === undefined ? undefined : toLazySource(row)
  }

  /** Lists the layers that are partial now. */
  partials(): LazySource[] {
    const sql =
      'SELECT partial_layers.* FROM partial_layers JOIN layers USING (diff_id) WHERE is_complete = 0 ORDER BY created_at, diff_id'
    return this.#database.all(sql).map(toLazySource)
  }

  /** Records that a partial layer is complete and verified. Does not wait for the disk. Returns false if the layer was removed meanwhile. */
  async complete(diffId: DiffId, tar: ArtifactRecord): Promise<boolean> {
    return this.#database.visibleTransaction(() => {
      const isThere = this.#database.get('SELECT 1 FROM layers WHERE diff_id = ?', diffId) !== undefined
      if (!isThere) return false
      this.#database.run('UPDATE layers SET is_complete = 1 WHERE diff_id = ?', diffId)
      this.#insertArtifact(tar)
      return true
    })
  }

  /** Records that a lazy index is wrong, so that it is not used again. */
  async denyIndex(indexDigest: Digest, reason: string): Promise<void> {
    await this.#database.durableTransaction(() => {
      this.#database.run(
        'INSERT OR IGNORE INTO denied_indexes (index_digest, reason, denied_at) VALUES (?, ?, ?)',
        indexDigest,
        reason,
        Date.now(),
      )
    })
  }

  /** Returns why a lazy index is not used; undefined if it may be. */
  denialOf(indexDigest: Digest): string | undefined {
    const row = this.#database.get('SELECT reason FROM denied_indexes WHERE index_digest = ?', indexDigest)
    return row === undefined ? undefined : text(row, 'reason')
  }

  find(diffId: DiffId): LayerRecord | undefined {
    const row = this.#database.get('SELECT * FROM layers WHERE diff_id = ?', diffId)
    return row === undefined ? undefined : toLayer(row)
  }

  list(): LayerRecord[] {
    return this.#database.all('SELECT * FROM layers ORDER BY created_at, diff_id').map(toLayer)
  }

  async remove(diffId: DiffId): Promise<void> {
    await this.#database.durableTransaction(() => {
      this.#database.run('DELETE FROM artifacts WHERE owner = ?', diffId)
      this.#database.run('DELETE FROM layers WHERE diff_id = ?', diffId)
    })
  }

  /** Returns whether an image, a root filesystem or a snapshot needs the layer. */
  isUsed(diffId: DiffId): boolean {
    const row = this.#database.get(
      `SELECT EXISTS (SELECT 1 FROM image_layers WHERE diff_id = ?1)
           OR EXISTS (SELECT 1 FROM rootfs_layers WHERE diff_id = ?1)
           OR EXISTS (SELECT 1 FROM snapshots WHERE diff_id = ?1)
           OR EXISTS (SELECT 1 FROM snapshots WHERE applied_diff_id = ?1) AS found`,
      diffId,
    )
    return exists(row)
  }

  /** Returns whether a root filesystem or a snapshot needs the layer. */
  isShown(diffId: DiffId): boolean {
    const row = this.#database.get(
      `SELECT EXISTS (SELECT 1 FROM rootfs_layers WHERE diff_id = ?1)
           OR EXISTS (SELECT 1 FROM snapshots WHERE diff_id = ?1)
           OR EXISTS (SELECT 1 FROM snapshots WHERE applied_diff_id = ?1) AS found`,
      diffId,
    )
    return exists(row)
  }

  /** Lists the layers that root filesystems and snapshots need, whether or not an image has them. */
  usedBesidesImages(): Set<DiffId> {
    const rows = this.#database.all(
      `SELECT diff_id FROM rootfs_layers UNION SELECT diff_id FROM snapshots WHERE diff_id IS NOT NULL
       UNION SELECT applied_diff_id FROM snapshots WHERE applied_diff_id IS NOT NULL`,
    )
    return new Set(rows.map((row) => parseDiffId(row['diff_id'])))
  }

  /** Returns whether an image, a root filesystem, a snapshot or an additional image store has this stack of layers. */
  isStackUsed(chainId: Digest): boolean {
    const row = this.#database.get(
      `SELECT EXISTS (SELECT 1 FROM images WHERE chain_id = ?1)
           OR EXISTS (SELECT 1 FROM additional_stacks WHERE chain_id = ?1)
           OR EXISTS (SELECT 1 FROM rootfses WHERE chain_id = ?1)
           OR EXISTS (SELECT 1 FROM snapshots WHERE chain_id = ?1) AS found`,
      chainId,
    )
    return exists(row)
  }

  /** Returns whether a root filesystem may use a folder that was built from this layer, or from this stack of layers. */
  isFolderUsed(owner: Digest): boolean {
    const row = this.#database.get(
      `SELECT EXISTS (SELECT 1 FROM rootfses WHERE chain_id = ?1 AND uses_mount = 0)
           OR EXISTS (SELECT 1 FROM rootfs_layers JOIN rootfses USING (uuid) WHERE diff_id = ?1 AND uses_mount = 0) AS found`,
      owner,
    )
    return exists(row)
  }

  /** Returns whether a root filesystem, a snapshot or an additional image store needs the mount that shows this stack of layers. */
  isMountUsed(chainId: ChainId): boolean {
    const sql = 'SELECT EXISTS (SELECT 1 FROM mount_users WHERE chain_id = ?) AS found'
    return exists(this.#database.get(sql, chainId))
  }

  /** Returns whether a root filesystem or a snapshot needs the mount that shows this stack of layers with the IDs of a mapping. */
  isMappedMountUsed(chainId: ChainId, mappingKey: string): boolean {
    const sql = 'SELECT EXISTS (SELECT 1 FROM mapped_users WHERE chain_id = ? AND id_mapping = ?) AS found'
    return exists(this.#database.get(sql, chainId, mappingKey))
  }

  /** Lists the mappings of IDs that root filesystems and snapshots have. */
  idMappings(): string[] {
    const sql = 'SELECT DISTINCT id_mapping FROM mapped_users WHERE id_mapping IS NOT NULL'
    return this.#database.all(sql).map((row) => text(row, 'id_mapping'))
  }

  /** Records an artifact. Does not wait for the disk, as artifacts do not. */
  async putArtifact(artifact: ArtifactRecord): Promise<void> {
    await this.#database.visibleTransaction(() => {
      this.#insertArtifact(artifact)
    })
  }

  #insertArtifact(artifact: ArtifactRecord): void {
    this.#database.run(
      'INSERT OR REPLACE INTO artifacts (owner, kind, boot_id, is_durable, created_at, generation) VALUES (?, ?, ?, ?, ?, ?)',
      artifact.owner,
      artifact.kind,
      artifact.bootId,
      artifact.isDurable ? 1 : 0,
      artifact.createdAtMs,
      artifact.generation,
    )
  }

  findArtifact(owner: Digest, kind: ArtifactKind): ArtifactRecord | undefined {
    const row = this.#database.get('SELECT * FROM artifacts WHERE owner = ? AND kind = ?', owner, kind)
    return row === undefined ? undefined : toArtifact(row)
  }

  listArtifacts(): ArtifactRecord[] {
    return this.#database.all('SELECT * FROM artifacts ORDER BY owner, kind').map(toArtifact)
  }

  async removeArtifact(owner: Digest, kind: ArtifactKind): Promise<void> {
    await this.removeArtifactUnless(owner, kind, () => false)
  }

  /** Removes the row of an artifact unless it is used, in one transaction: no user can come in between. Returns whether it was unused. */
  async removeArtifactUnless(owner: Digest, kind: ArtifactKind, isUsed: () => boolean): Promise<boolean> {
    return this.#database.durableTransaction(() => {
      if (isUsed()) return false
      this.#database.run('DELETE FROM artifacts WHERE owner = ? AND kind = ?', owner, kind)
      return true
    })
  }

  /** Records that artifacts of these owners are on the disk. */
  async markDurable(owners: readonly Digest[], kinds: readonly ArtifactKind[]): Promise<void> {
    await this.#database.durableTransaction(() => {
      for (const owner of owners) {
        for (const kind of kinds) {
          this.#database.run('UPDATE artifacts SET is_durable = 1 WHERE owner = ? AND kind = ?', owner, kind)
        }
      }
    })
  }

  /** Lists the artifacts of a boot that are not known to be on the disk. */
  listUnsynced(bootId: string): ArtifactRecord[] {
    return this.#database
      .all('SELECT * FROM artifacts WHERE boot_id = ? AND is_durable = 0', bootId)
      .map(toArtifact)
  }

  /** Records that the files of artifacts are on the disk. Those that were rebuilt since they were listed are left out. */
  async markSynced(artifacts: readonly ArtifactRecord[]): Promise<void> {
    const sql =
      'UPDATE artifacts SET is_durable = 1 WHERE owner = ? AND kind = ? AND boot_id = ? AND created_at = ?'
    await this.#database.visibleTransaction(() => {
      for (const { owner, kind, bootId, createdAtMs } of artifacts)
        this.#database.run(sql, owner, kind, bootId, createdAtMs)
    })
  }
}

function toLayer(row: Row): LayerRecord {
  return {
    diffId: parseDiffId(row['diff_id']),
    tarBytes: integer(row, 'tar_bytes'),
    summary: JSON.parse(text(row, 'summary')) as LayerSummary,
    createdAtMs: integer(row, 'created_at'),
    data: flag(row, 'is_complete') ? 'complete' : 'partial',
  }
}

function toLazySource(row: Row): LazySource {
  return {
    diffId: parseDiffId(row['diff_id']),
    blob: {
      digest: parseDigest(row['blob_digest']),
      mediaType: text(row, 'blob_media_type'),
      sizeBytes: integer(row, 'blob_bytes'),
    },
    reference: text(row, 'reference'),
    indexDigest: parseDigest(row['index_digest']),
    trustedBy: text(row, 'trusted_by'),
  }
}

function toArtifact(row: Row): ArtifactRecord {
  return {
    owner: parseDigest(row['owner']),
    kind: oneOf(row, 'kind', ARTIFACT_KINDS),
    bootId: text(row, 'boot_id'),
    isDurable: flag(row, 'is_durable'),
    createdAtMs: integer(row, 'created_at'),
    generation: integer(row, 'generation'),
  }
}
