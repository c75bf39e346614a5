import { AdditionalImageTable } from './additional-images.ts'
import { ContainerTable } from './containers.ts'
import { Database, type OpenOptions } from './database.ts'
import { DecisionTable } from './decisions.ts'
import { ImageTable } from './images.ts'
import { LayerTable } from './layers.ts'
import { LazyTable } from './lazy.ts'
import { OriginTable } from './origins.ts'
import { SnapshotTable } from './snapshots.ts'

/** The database of a store, by subject. Close it by `using`. */
export class MetadataStore implements Disposable {
  readonly images: ImageTable
  readonly decisions: DecisionTable
  readonly layers: LayerTable
  readonly lazy: LazyTable
  readonly origins: OriginTable
  readonly containers: ContainerTable
  readonly snapshots: SnapshotTable
  readonly additionalImages: AdditionalImageTable
  readonly #database: Database

  private constructor(database: Database) {
    this.#database = database
    this.images = new ImageTable(database)
    this.decisions = new DecisionTable(database)
    this.layers = new LayerTable(database)
    this.lazy = new LazyTable(database)
    this.origins = new OriginTable(database)
    this.containers = new ContainerTable(database)
    this.snapshots = new SnapshotTable(database)
    this.additionalImages = new AdditionalImageTable(database)
  }

  /** Opens metadata.db, and creates it if it does not exist. @throws STORE_FORMAT, STORE_BUSY and system errors */
  static async open(path: string, options: OpenOptions): Promise<MetadataStore> {
    return new MetadataStore(await Database.open(path, options))
  }

  /** Reads the header of the database, which shows a file system that fails or hangs. @throws system errors */
  check(): void {
    this.#database.get('PRAGMA user_version')
  }

  /**
   * Waits until the rows of other callers of this process, which are visible before they are on the disk, are on it. @throws system errors of the disk
   */
  async settle(): Promise<void> {
    await this.#database.settle()
  }

  [Symbol.dispose](): void {
    this.#database[Symbol.dispose]()
  }
}
