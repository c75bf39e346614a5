import { type ChainId, type Digest, parseDigest } from '../image/index.ts'
import type { Database, Row } from './database.ts'
import { text } from './rows.ts'

/** An image in an additional image store, under one of its names there. */
export interface AdditionalImage {
  /** The directory of the store: absolute, without symlinks. */
  readonly directory: string
  /** The reference that other programs know it by; its digest for an image without a name. */
  readonly name: string
  readonly imageDigest: Digest
}

/** The images in additional image stores: each stays in this store, with the mounts of its layers, until it is removed from there. */
export class AdditionalImageTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Records an image with the stacks that its layers are mounted as, base first. A name moves from another image of the directory. */
  async put({ directory, name, imageDigest }: AdditionalImage, stacks: readonly ChainId[]): Promise<void> {
    await this.#database.durableTransaction(() => {
      this.#database.run(
        'INSERT OR REPLACE INTO additional_images (directory, name, image_digest) VALUES (?, ?, ?)',
        directory,
        name,
        imageDigest,
      )
      for (const [position, chainId] of stacks.entries())
        this.#database.run(
          'INSERT OR REPLACE INTO additional_stacks (image_digest, position, chain_id) VALUES (?, ?, ?)',
          imageDigest,
          position,
          chainId,
        )
      this.#removeUnusedStacks()
    })
  }

  async remove(images: readonly AdditionalImage[]): Promise<void> {
    await this.#database.durableTransaction(() => {
      for (const { directory, name } of images)
        this.#database.run('DELETE FROM additional_images WHERE directory = ? AND name = ?', directory, name)
      this.#removeUnusedStacks()
    })
  }

  #removeUnusedStacks(): void {
    this.#database.run(
      'DELETE FROM additional_stacks WHERE image_digest NOT IN (SELECT image_digest FROM additional_images)',
    )
  }

  /** Lists the images of all directories. */
  list(): AdditionalImage[] {
    return this.#database
      .all('SELECT * FROM additional_images ORDER BY directory, name')
      .map(toAdditionalImage)
  }

  /** Lists the directories that have an image. */
  directoriesOf(digest: Digest): string[] {
    return this.#database
      .all(
        'SELECT DISTINCT directory FROM additional_images WHERE image_digest = ? ORDER BY directory',
        digest,
      )
      .map((row) => text(row, 'directory'))
  }
}

function toAdditionalImage(row: Row): AdditionalImage {
  return {
    directory: text(row, 'directory'),
    name: text(row, 'name'),
    imageDigest: parseDigest(row['image_digest']),
  }
}
