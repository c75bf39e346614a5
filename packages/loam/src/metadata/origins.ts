import { type Digest, type DiffId, parseDigest } from '../image/index.ts'
import type { Database } from './database.ts'
import { integer, text } from './rows.ts'

/** A blob that a layer may be transferred as. */
export interface LayerBlobRecord {
  readonly mediaType: string
  readonly digest: Digest
  readonly sizeBytes: number
}

/** Locations from which documents and blobs of images can be fetched unchanged: names of sources that have served them. */
export class OriginTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Records that a source has documents or blobs. */
  async put(digests: readonly Digest[], reference: string): Promise<void> {
    await this.#database.durableTransaction(() => {
      for (const digest of digests)
        this.#database.run(
          'INSERT OR IGNORE INTO origins (digest, reference) VALUES (?, ?)',
          digest,
          reference,
        )
    })
  }

  /** Lists the sources that have a document or a blob. */
  list(digest: Digest): string[] {
    return this.#database
      .all('SELECT reference FROM origins WHERE digest = ? ORDER BY reference', digest)
      .map((row) => text(row, 'reference'))
  }

  /** Lists the blobs of known origin that contain a layer. */
  blobsOf(diffId: DiffId): LayerBlobRecord[] {
    return this.#database
      .all(
        `SELECT DISTINCT blob_digest, blob_media_type, blob_bytes FROM image_layers
         WHERE diff_id = ? AND blob_digest IN (SELECT digest FROM origins) ORDER BY blob_digest`,
        diffId,
      )
      .map((row) => ({
        mediaType: text(row, 'blob_media_type'),
        digest: parseDigest(row['blob_digest']),
        sizeBytes: integer(row, 'blob_bytes'),
      }))
  }

  /** Removes the origins of documents and blobs that no image needs any more. */
  async prune(): Promise<void> {
    await this.#database.durableTransaction(() => {
      this.#database.run(
        `DELETE FROM origins WHERE digest NOT IN (SELECT blob_digest FROM image_layers
           UNION SELECT digest FROM images UNION SELECT target_digest FROM names)`,
      )
    })
  }
}
