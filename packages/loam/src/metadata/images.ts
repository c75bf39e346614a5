import { LoamError } from '../errors/index.ts'
import {
  type ChainId,
  type DiffId,
  type Digest,
  parseChainId,
  parseDiffId,
  parseDigest,
  pinOf,
  storedReference,
  type StoredReference,
} from '../image/index.ts'
import type { Database, Row } from './database.ts'
import {
  checkPin,
  isTrueName,
  type LeftName,
  NAME_GIVERS,
  type NameOrigin,
  type NameRecord,
  type NewName,
  planName,
  rankOf,
} from './name-rules.ts'
import { flag, integer, list, oneOf, optionalDigest, optionalText, text } from './rows.ts'

/** Images with their layers, each as a list of its columns: one statement, so that no other process removes an image halfway. */
const IMAGES = `SELECT i.*, (
    SELECT json_group_array(json_array(diff_id, blob_digest, blob_media_type, blob_bytes) ORDER BY position)
    FROM image_layers WHERE image_digest = i.digest
  ) AS layers FROM images i`

/** Names with the way they were given, if it is recorded for the image that they refer to. */
const NAMES = `SELECT n.*, i.is_local, o.given_by, o.locations FROM names n JOIN images i ON i.digest = n.image_digest
  LEFT JOIN name_origins o ON o.reference = n.reference AND o.platform = n.platform AND o.image_digest = n.image_digest`

/** The values of a parameter that is a JSON array. */
const LISTED = '(SELECT value FROM json_each(?))'

/** A layer of an image: the tar by its diffID, and the blob that it is transferred as. */
export interface ImageLayerRecord {
  /** Digest of the tar. */
  readonly diffId: DiffId
  /** Digest of the blob, as the manifest has it. */
  readonly blobDigest: Digest
  /** Media type of the blob, as the manifest has it. */
  readonly blobMediaType: string
  /** Size of the blob as it is transferred. */
  readonly blobBytes: number
  /** Own addresses of a layer that must not be distributed, while it is fetched: only the manifest keeps them. */
  readonly blobUrls?: readonly string[] | undefined
}

/** The stores of images, by the specification that their images follow; OCI images are in Docker's. */
export const IMAGE_TYPES = ['docker', 'appc'] as const
/** Type of an image; OCI images count as `docker`. */
export type ImageType = (typeof IMAGE_TYPES)[number]

/** A complete image for one platform in the store. */
export interface ImageRecord {
  /** The store that it belongs to. */
  readonly type: ImageType
  /** Digest of its manifest. */
  readonly digest: Digest
  /** Media type of its manifest. */
  readonly mediaType: string
  /** Digest of its config. */
  readonly configDigest: Digest
  /** Names the stack of layers; undefined when there are none. */
  readonly chainId: ChainId | undefined
  /** As `os/arch[/variant]`. */
  readonly platform: string
  /** Manifest, config and layer blobs together, as transferred. */
  readonly sizeBytes: number
  /** Creation time according to the image. */
  readonly created: string | undefined
  /** When it was added to the store, in milliseconds since 1970. */
  readonly pulledAtMs: number
  /** When it was last used, in milliseconds since 1970. */
  readonly usedAtMs: number
  /** Whether the image exists nowhere else: it was created here, or came from a file, and no known registry has it. */
  readonly isLocal: boolean
  /** Base first; a layer may occur twice. */
  readonly layers: readonly ImageLayerRecord[]
}

/** The images and their names. */
export class ImageTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /**
   * Records an image and its names in one transaction. `ids` are those that it may be named by in addition to its digests. Returns the image's
   * own names that it did not get. @throws DIGEST_MISMATCH, NAME_TAKEN; nothing is recorded then
   */
  async put(image: ImageRecord, names: readonly NewName[], ids: readonly string[] = []): Promise<LeftName[]> {
    const db = this.#database
    return db.durableTransaction(() => {
      db.run(
        `INSERT INTO images (digest, media_type, config_digest, chain_id, platform, size_bytes, created, pulled_at, used_at,
           type, is_local) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (digest) DO UPDATE SET pulled_at = excluded.pulled_at, used_at = excluded.used_at,
           is_local = min(is_local, excluded.is_local)`,
        image.digest,
        image.mediaType,
        image.configDigest,
        image.chainId ?? null,
        image.platform,
        image.sizeBytes,
        image.created ?? null,
        image.pulledAtMs,
        image.usedAtMs,
        image.type,
        image.isLocal ? 1 : 0,
      )
      db.run('DELETE FROM image_layers WHERE image_digest = ?', image.digest)
      for (const [position, layer] of image.layers.entries()) {
        db.run(
          `INSERT INTO image_layers (image_digest, position, diff_id, blob_digest, blob_media_type, blob_bytes)
           VALUES (?, ?, ?, ?, ?, ?)`,
          image.digest,
          position,
          layer.diffId,
          layer.blobDigest,
          layer.blobMediaType,
          layer.blobBytes,
        )
      }
      return names.flatMap((name) => this.#giveName(name, image, { ids, nowMs: image.pulledAtMs }))
    })
  }

  /** Returns whether `put` would change nothing but times, and these by at most `stepMs`. */
  isRecorded(
    image: ImageRecord,
    names: readonly NewName[],
    { ids, stepMs }: { readonly ids: readonly string[]; readonly stepMs: number },
  ): boolean {
    const known = this.find(image.digest)
    if (known === undefined || Math.abs(image.pulledAtMs - known.pulledAtMs) > stepMs) return false
    if (known.isLocal && !image.isLocal) return false
    const isSame =
      known.layers.length === image.layers.length &&
      known.layers.every(({ diffId }, index) => diffId === image.layers[index]?.diffId)
    return isSame && names.every((name) => this.#isGiven(name, image, ids))
  }

  #isGiven(name: NewName, { digest, platform }: ImageRecord, ids: readonly string[]): boolean {
    const { reference, targetDigest, givenBy, locations } = name
    const pin = pinOf(reference)
    if (pin !== undefined && ![targetDigest, digest, ...ids].includes(pin)) return false
    const held = this.findNames(reference)
    const own = held.find((row) => row.platform === platform)
    return (
      own?.imageDigest === digest &&
      own.targetDigest === targetDigest &&
      own.origin?.givenBy === givenBy &&
      own.origin.locations.join('\0') === locations.join('\0') &&
      held.every((row) => rankOf(row) === rankOf(own))
    )
  }

  /** Gives names to an image that is here, in one transaction. @throws IMAGE_NOT_FOUND, and as `put`; nothing is recorded then */
  async giveNames(digest: Digest, names: readonly NewName[], ids: readonly string[]): Promise<void> {
    await this.#database.durableTransaction(() => {
      const image = this.find(digest)
      if (image === undefined)
        throw new LoamError('IMAGE_NOT_FOUND', `name ${digest}: the image was removed meanwhile`)
      for (const name of names) this.#giveName(name, image, { ids, nowMs: Date.now() })
    })
  }

  #giveName(
    name: NewName,
    image: ImageRecord,
    { ids, nowMs }: { readonly ids: readonly string[]; readonly nowMs: number },
  ): LeftName[] {
    const { reference, targetDigest, givenBy, locations } = name
    try {
      checkPin(reference, [targetDigest, image.digest, ...ids])
    } catch (error) {
      if (givenBy === 'image') return [{ reference, why: 'digest' }]
      throw error
    }
    const subject = { imageDigest: image.digest, platform: image.platform }
    const plan = planName(name, subject, this.#held(reference).filter(isTrueName))
    if (plan.kind === 'taken') return [{ reference, why: 'taken' }]
    if (plan.kind === 'keep') return []
    for (const { platform } of plan.removed) this.#forget(reference, platform)
    this.#forget(reference, image.platform)
    const db = this.#database
    db.run(
      `INSERT INTO names (reference, platform, target_digest, image_digest, updated_at) VALUES (?, ?, ?, ?, ?)`,
      reference,
      image.platform,
      targetDigest,
      image.digest,
      nowMs,
    )
    db.run(
      'INSERT INTO name_origins (reference, platform, image_digest, given_by, locations) VALUES (?, ?, ?, ?, ?)',
      reference,
      image.platform,
      image.digest,
      givenBy,
      JSON.stringify(locations),
    )
    return []
  }

  #forget(reference: StoredReference, platform: string): void {
    for (const table of ['names', 'name_origins'])
      this.#database.run(`DELETE FROM ${table} WHERE reference = ? AND platform = ?`, reference, platform)
  }

  #held(reference: StoredReference): NameRecord[] {
    return this.#database.all(`${NAMES} WHERE n.reference = ? ORDER BY n.platform`, reference).map(toName)
  }

  /**
   * Records that an image is used, if the recorded time is more than `stepMs` old. Does not wait for the disk. Returns false if the image is not
   * in the store.
   */
  async touch(digest: Digest, nowMs: number, stepMs: number): Promise<boolean> {
    const row = this.#database.get('SELECT used_at FROM images WHERE digest = ?', digest)
    if (row === undefined) return false
    if (integer(row, 'used_at') + stepMs >= nowMs) return true
    return this.#database.visibleTransaction(() => {
      this.#database.run('UPDATE images SET used_at = ? WHERE digest = ?', nowMs, digest)
      return this.find(digest) !== undefined
    })
  }

  find(digest: Digest): ImageRecord | undefined {
    const row = this.#database.get(`${IMAGES} WHERE i.digest = ?`, digest)
    return row === undefined ? undefined : toImage(row)
  }

  /** Finds those of some images that are in the store, in the order of `list`. */
  findAll(digests: readonly Digest[]): ImageRecord[] {
    return this.#database
      .all(`${IMAGES} WHERE i.digest IN ${LISTED} ORDER BY i.pulled_at, i.digest`, JSON.stringify(digests))
      .map(toImage)
  }

  count(): number {
    return integer(this.#database.get('SELECT count(*) AS images FROM images') ?? {}, 'images')
  }

  /** Lists the digests of all images, or of those of one type, in the order of `list`: for callers that look at each, or at few. */
  digests(type?: ImageType): Digest[] {
    const order = 'ORDER BY pulled_at, digest'
    return type === undefined
      ? this.#digests(`SELECT digest AS d FROM images ${order}`)
      : this.#digests(`SELECT digest AS d FROM images WHERE type = ? ${order}`, type)
  }

  list(): ImageRecord[] {
    return this.#database.all(`${IMAGES} ORDER BY i.pulled_at, i.digest`).map(toImage)
  }

  /** Lists the images that a reference refers to, on every platform in the store. */
  findNames(reference: StoredReference): NameRecord[] {
    return this.#held(reference).filter(isTrueName)
  }

  listNames(): NameRecord[] {
    return this.#database.all(`${NAMES} ORDER BY n.reference, n.platform`).map(toName).filter(isTrueName)
  }

  /** Lists the names of an image. */
  namesOf(digest: Digest): NameRecord[] {
    return this.namesOfAll([digest])
  }

  /** Lists the names of some images. */
  namesOfAll(digests: readonly Digest[]): NameRecord[] {
    const sql = `${NAMES} WHERE n.image_digest IN ${LISTED} ORDER BY n.reference, n.platform`
    return this.#database.all(sql, JSON.stringify(digests)).map(toName).filter(isTrueName)
  }

  /** Lists the images that have a layer, in the order of `list`. */
  usersOfLayer(diffId: DiffId): Digest[] {
    return this.#digests(
      `SELECT digest AS d FROM images WHERE digest IN (SELECT image_digest FROM image_layers WHERE diff_id = ?)
       ORDER BY pulled_at, digest`,
      diffId,
    )
  }

  /** Finds images by digest of manifest, index or config, whole or by its first hex digits. */
  findByDigestPrefix(prefix: string): ImageRecord[] {
    const pattern = `${prefix.includes(':') ? prefix : `sha256:${prefix}`}%`
    return this.#database
      .all(
        `${IMAGES} WHERE i.digest LIKE ?1 OR i.config_digest LIKE ?1
           OR i.digest IN (SELECT image_digest FROM names WHERE target_digest LIKE ?1)`,
        pattern,
      )
      .map(toImage)
  }

  /** Removes a name, on every platform. Returns the images that had it. */
  async removeName(reference: StoredReference): Promise<Digest[]> {
    return this.#database.durableTransaction(() => {
      const names = this.findNames(reference)
      for (const table of ['names', 'name_origins'])
        this.#database.run(`DELETE FROM ${table} WHERE reference = ?`, reference)
      return [...new Set(names.map(({ imageDigest }) => imageDigest))]
    })
  }

  /** Records that a registry has an image, unchanged or compressed again, by the pushed document: with an index it has all of its images. */
  async markPushed(digest: Digest, pushed: Digest): Promise<void> {
    await this.#database.durableTransaction(() => {
      this.#database.run(
        `UPDATE images SET is_local = 0
         WHERE digest = ?1 OR digest IN (SELECT image_digest FROM names WHERE target_digest = ?2)`,
        digest,
        pushed,
      )
    })
  }

  /**
   * Removes the images that `choose` returns with all their names and returns them, in one transaction: no caller can name or use one in between.
   * Their layers and blobs stay until they are swept.
   */
  async removeAll<T extends { readonly digest: Digest }>(choose: () => readonly T[]): Promise<readonly T[]> {
    return this.#database.durableTransaction(() => {
      const chosen = choose()
      const digests = JSON.stringify(chosen.map(({ digest }) => digest))
      this.#database.run(`DELETE FROM images WHERE digest IN ${LISTED}`, digests)
      return chosen
    })
  }

  /** Lists the images of a type that no root filesystem and no additional image store has, in the order of `list`. */
  unused(type: ImageType): Pick<ImageRecord, 'digest' | 'isLocal'>[] {
    return this.#database
      .all(
        `SELECT digest, is_local FROM images
         WHERE type = ? AND digest NOT IN (SELECT image_digest FROM rootfses)
           AND digest NOT IN (SELECT image_digest FROM additional_images)
         ORDER BY pulled_at, digest`,
        type,
      )
      .map((row) => ({ digest: parseDigest(row['digest']), isLocal: flag(row, 'is_local') }))
  }

  /** Lists the digests of the blobs that the images' layers are transferred as. */
  layerBlobs(): Set<Digest> {
    return new Set(this.#digests('SELECT DISTINCT blob_digest AS d FROM image_layers'))
  }

  /** Lists the digests of documents that the images need. */
  usedBlobs(): Set<Digest> {
    return new Set(
      this.#digests(
        'SELECT digest AS d FROM images UNION SELECT config_digest FROM images UNION SELECT target_digest FROM names',
      ),
    )
  }

  #digests(sql: string, ...values: readonly string[]): Digest[] {
    return this.#database.all(sql, ...values).map((row) => parseDigest(row['d']))
  }
}

function toImage(row: Row): ImageRecord {
  return {
    type: oneOf(row, 'type', IMAGE_TYPES),
    digest: parseDigest(row['digest']),
    mediaType: text(row, 'media_type'),
    configDigest: parseDigest(row['config_digest']),
    chainId: optionalDigest(row, 'chain_id', parseChainId),
    platform: text(row, 'platform'),
    sizeBytes: integer(row, 'size_bytes'),
    created: optionalText(row, 'created'),
    pulledAtMs: integer(row, 'pulled_at'),
    usedAtMs: integer(row, 'used_at'),
    isLocal: flag(row, 'is_local'),
    layers: list(row, 'layers').map(toLayer),
  }
}

function toLayer(columns: unknown): ImageLayerRecord {
  const [diffId, blobDigest, blobMediaType, blobBytes] = Array.isArray(columns) ? (columns as unknown[]) : []
  const row = { blobMediaType, blobBytes }
  return {
    diffId: parseDiffId(diffId),
    blobDigest: parseDigest(blobDigest),
    blobMediaType: text(row, 'blobMediaType'),
    blobBytes: integer(row, 'blobBytes'),
  }
}

function toName(row: Row): NameRecord {
  return {
    reference: storedReference(text(row, 'reference')),
    platform: text(row, 'platform'),
    targetDigest: parseDigest(row['target_digest']),
    imageDigest: parseDigest(row['image_digest']),
    updatedAtMs: integer(row, 'updated_at'),
    isLocal: flag(row, 'is_local'),
    origin: toOrigin(row),
  }
}

function toOrigin(row: Row): NameOrigin | undefined {
  const givenBy = NAME_GIVERS.find((giver) => giver === row['given_by'])
  if (givenBy === undefined) return undefined
  const locations: unknown = JSON.parse(text(row, 'locations'))
  return { givenBy, locations: Array.isArray(locations) ? locations.map(String) : [] }
}
