import { type DiffId, type Digest, parseDigest, uniteSpans } from '../image/index.ts'
import type { Database, Row } from './database.ts'
import { integer, text } from './rows.ts'

/** A lazy index that is not used again. */
export interface DeniedIndex {
  readonly indexDigest: Digest
  /** Why, as a sentence. */
  readonly reason: string
  /** When it was denied, in milliseconds since 1970. */
  readonly deniedAtMs: number
}

/** The spans of a layer that containers read first. Numbers of spans mean something only with the index that they are of. */
export interface LayerProfile {
  readonly indexDigest: Digest
  /** In the order in which they were first read. */
  readonly spans: readonly number[]
}

/** What is known about images and layers for lazy pulls. Rows are removed with their images and layers; denials stay until they are lifted. */
export class LazyTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Records why an image was pulled eagerly; undefined: it was pulled lazily. Does nothing if the image is not in the store. */
  async putWhyEager(imageDigest: Digest, why: string | undefined): Promise<void> {
    if (this.whyEager(imageDigest) === why) return
    await this.#database.visibleTransaction(() => {
      this.#database.run('DELETE FROM eager_images WHERE image_digest = ?', imageDigest)
      if (why === undefined) return
      this.#database.run(
        'INSERT INTO eager_images (image_digest, why) SELECT digest, ? FROM images WHERE digest = ?',
        why,
        imageDigest,
      )
    })
  }

  /** Returns why an image was pulled eagerly, if it could have been pulled lazily. */
  whyEager(imageDigest: Digest): string | undefined {
    const row = this.#database.get('SELECT why FROM eager_images WHERE image_digest = ?', imageDigest)
    return row === undefined ? undefined : text(row, 'why')
  }

  /** Adds spans to the profile of a layer, behind those that it has. That of another index is replaced. Does nothing if the layer is not in the store. */
  async addProfile(diffId: DiffId, { indexDigest, spans }: LayerProfile): Promise<void> {
    await this.#database.visibleTransaction(() => {
      const known = this.profileOf(diffId)
      const before = known?.indexDigest === indexDigest ? known.spans : []
      const all = uniteSpans(before, spans)
      if (all.length === before.length) return
      this.#database.run(
        `INSERT OR REPLACE INTO profiles (diff_id, index_digest, spans) SELECT diff_id, ?, ? FROM layers WHERE diff_id = ?`,
        indexDigest,
        all.join(' '),
        diffId,
      )
    })
  }

  profileOf(diffId: DiffId): LayerProfile | undefined {
    const row = this.#database.get('SELECT * FROM profiles WHERE diff_id = ?', diffId)
    if (row === undefined) return undefined
    const spans = text(row, 'spans').split(' ').map(Number)
    return { indexDigest: parseDigest(row['index_digest']), spans: spans.filter(Number.isSafeInteger) }
  }

  /** Uses a denied lazy index again. Returns false if it was not denied. */
  async allowIndex(indexDigest: Digest): Promise<boolean> {
    return this.#database.durableTransaction(() => {
      const isDenied = this.#database.get('SELECT 1 FROM denied_indexes WHERE index_digest = ?', indexDigest)
      this.#database.run('DELETE FROM denied_indexes WHERE index_digest = ?', indexDigest)
      return isDenied !== undefined
    })
  }

  /** Lists the keys of the snapshots that show a layer and are not committed. */
  snapshotsOf(diffId: DiffId): string[] {
    const rows = this.#database.all(
      `WITH RECURSIVE above (id) AS (
         SELECT id FROM snapshots WHERE diff_id = ?1 OR applied_diff_id = ?1
         UNION SELECT s.id FROM snapshots s JOIN above ON s.parent_id = above.id)
       SELECT key FROM snapshots WHERE kind <> 'committed' AND id IN (SELECT id FROM above) ORDER BY key`,
      diffId,
    )
    return rows.map((row) => text(row, 'key'))
  }

  /** Lists the lazy indexes that are not used again. */
  denied(): DeniedIndex[] {
    return this.#database.all('SELECT * FROM denied_indexes ORDER BY denied_at, index_digest').map(toDenied)
  }
}

function toDenied(row: Row): DeniedIndex {
  return {
    indexDigest: parseDigest(row['index_digest']),
    reason: text(row, 'reason'),
    deniedAtMs: integer(row, 'denied_at'),
  }
}
