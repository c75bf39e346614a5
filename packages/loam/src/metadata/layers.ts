import { type DiffId, type Digest, parseDiffId } from '../image/index.ts'
import type { LayerSummary } from '../tree/index.ts'
import type { Database, Row } from './database.ts'
import { integer, text } from './rows.ts'

/** A layer whose tar is in the store and was verified. */
export interface LayerRecord {
  readonly diffId: DiffId
  readonly tarBytes: number
  readonly summary: LayerSummary
  readonly createdAtMs: number
}

/** A layer itself (`tar`), or a form that was derived from it (`index`, `fs`) or from a stack of layers (`merged`, `patch`, `whole`). */
export interface FormRecord {
  /** The diffID or chainID that it belongs to. */
  readonly owner: Digest
  readonly form: string
  /** The boot in which it was made. */
  readonly bootId: string
  /** Its files are known to be on the disk; otherwise it is good in that boot alone. */
  readonly isDurable: boolean
  readonly createdAtMs: number
  /** The `TREE_GENERATION` that it was made by. */
  readonly generation: number
}

/** The layers, and the forms made from them. */
export class LayerTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Records a layer with its forms, in one step. Waits for no disk, as the layer has not: what is lost with it is fetched again. */
  put(layer: LayerRecord, forms: readonly FormRecord[]): void {
    const put = () => {
      this.#database.run(
        'INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?)',
        layer.diffId,
        layer.tarBytes,
        JSON.stringify(layer.summary),
        layer.createdAtMs,
      )
      for (const form of forms) this.#insertForm(form)
    }
    this.#database.withoutWaiting(() => {
      this.#database.transaction(put)
    })
  }

  find(diffId: DiffId): LayerRecord | undefined {
    const row = this.#database.get('SELECT * FROM layers WHERE diff_id = ?', diffId)
    return row === undefined ? undefined : toLayer(row)
  }

  list(): LayerRecord[] {
    return this.#database.all('SELECT * FROM layers ORDER BY created_at, diff_id').map(toLayer)
  }

  remove(diffId: DiffId): void {
    this.#database.transaction(() => {
      this.#database.run('DELETE FROM forms WHERE owner = ?', diffId)
      this.#database.run('DELETE FROM layers WHERE diff_id = ?', diffId)
    })
  }

  /** Tells whether an image, a root filesystem or a snapshot needs the layer. */
  isUsed(diffId: DiffId): boolean {
    const row = this.#database.get(
      `SELECT EXISTS (SELECT 1 FROM image_layers WHERE diff_id = ?1)
           OR EXISTS (SELECT 1 FROM rootfs_layers WHERE diff_id = ?1)
           OR EXISTS (SELECT 1 FROM snapshots WHERE diff_id = ?1) AS used`,
      diffId,
    )
    return row?.['used'] === 1
  }

  /** Lists the layers that root filesystems and snapshots need, whatever becomes of images. */
  usedBesidesImages(): Set<DiffId> {
    const rows = this.#database.all(
      'SELECT diff_id FROM rootfs_layers UNION SELECT diff_id FROM snapshots WHERE diff_id IS NOT NULL',
    )
    return new Set(rows.map((row) => text(row, 'diff_id') as DiffId))
  }

  /** Tells whether an image, a root filesystem or a snapshot has this stack of layers. */
  isStackUsed(chainId: Digest): boolean {
    const row = this.#database.get(
      `SELECT EXISTS (SELECT 1 FROM images WHERE chain_id = ?1)
           OR EXISTS (SELECT 1 FROM rootfses WHERE chain_id = ?1)
           OR EXISTS (SELECT 1 FROM snapshots WHERE chain_id = ?1) AS used`,
      chainId,
    )
    return row?.['used'] === 1
  }

  /** Tells whether a root filesystem may lie on a folder that was made of this layer, or of this stack of layers. */
  isFolderUsed(owner: Digest): boolean {
    const row = this.#database.get(
      `SELECT EXISTS (SELECT 1 FROM rootfses WHERE chain_id = ?1 AND backend <> 'erofs')
           OR EXISTS (SELECT 1 FROM rootfs_layers JOIN rootfses USING (uuid) WHERE diff_id = ?1 AND backend <> 'erofs') AS used`,
      owner,
    )
    return row?.['used'] === 1
  }

  /** Records a form. Waits for no disk, as forms do not. */
  putForm(form: FormRecord): void {
    this.#database.withoutWaiting(() => {
      this.#insertForm(form)
    })
  }

  #insertForm(form: FormRecord): void {
    this.#database.run(
      'INSERT OR REPLACE INTO forms VALUES (?, ?, ?, ?, ?, ?)',
      form.owner,
      form.form,
      form.bootId,
      form.isDurable ? 1 : 0,
      form.createdAtMs,
      form.generation,
    )
  }

  findForm(owner: Digest, form: string): FormRecord | undefined {
    const row = this.#database.get('SELECT * FROM forms WHERE owner = ? AND form = ?', owner, form)
    return row === undefined ? undefined : toForm(row)
  }

  listForms(): FormRecord[] {
    return this.#database.all('SELECT * FROM forms ORDER BY owner, form').map(toForm)
  }

  removeForm(owner: Digest, form: string): void {
    this.#database.run('DELETE FROM forms WHERE owner = ? AND form = ?', owner, form)
  }

  /** Says that forms of these owners are on the disk. */
  markDurable(owners: readonly Digest[], forms: readonly string[]): void {
    this.#database.transaction(() => {
      for (const owner of owners) {
        for (const form of forms) {
          this.#database.run('UPDATE forms SET is_durable = 1 WHERE owner = ? AND form = ?', owner, form)
        }
      }
    })
  }

  /** Says that the files of forms made before a moment are on the disk. */
  markFormsDurable(bootId: string, beforeMs: number): void {
    this.#database.run(
      'UPDATE forms SET is_durable = 1 WHERE boot_id = ? AND created_at <= ?',
      bootId,
      beforeMs,
    )
  }
}

function toLayer(row: Row): LayerRecord {
  return {
    diffId: parseDiffId(row['diff_id']),
    tarBytes: integer(row, 'tar_bytes'),
    summary: JSON.parse(text(row, 'summary')) as LayerSummary,
    createdAtMs: integer(row, 'created_at'),
  }
}

function toForm(row: Row): FormRecord {
  return {
    owner: text(row, 'owner') as Digest,
    form: text(row, 'form'),
    bootId: text(row, 'boot_id'),
    isDurable: integer(row, 'is_durable') === 1,
    createdAtMs: integer(row, 'created_at'),
    generation: integer(row, 'generation'),
  }
}
