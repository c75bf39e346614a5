import type { DiffId } from '../image/index.ts'

/** How to wait for the data of a partial layer. */
export interface CompleteOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes of the tar that are here, and with its size. */
  readonly onProgress?: ((presentBytes: number, totalBytes: number) => void) | undefined
}

/**
 * Fills the tars of partial layers. The life of a partial layer: its files and its row are written; `serve` lets reads of its tar wait for their
 * data, before anything can mount it; it is filled as it is read and in the background, until its row says that it is complete; `forget`
 * precedes its removal. All calls may be repeated, also concurrently and by several processes.
 */
export interface LayerFiller {
  /** Gets ready for layers that are likely to be served soon. Returns at once, and never throws. */
  readonly prepare: () => void
  /** Ends what `prepare` keeps running. */
  readonly release: () => void
  /** Ensures that reads of the tars of these partial layers wait for their data from now on. The caller holds their locks. @throws LAZY_* */
  readonly serve: (diffIds: readonly DiffId[], signal?: AbortSignal) => Promise<void>
  /**
   * Waits until all data of a partial layer is here, was verified by its diffID, and its row says so. Other partial layers are filled after
   * it. The caller keeps the layer from being removed. @throws CANCELED, NO_SPACE, and DIGEST_MISMATCH, REGISTRY_* and others after a number of tries to get
   * data that does not come
   */
  readonly complete: (diffId: DiffId, options: CompleteOptions) => Promise<void>
  /**
   * Serves partial layers that are mounted already. Returns the mount points that were unmounted, since nobody served the layers for a while: what
   * they showed may have been wrong. @throws LAZY_*
   */
  readonly resume: (diffIds: readonly DiffId[], signal?: AbortSignal) => Promise<readonly string[]>
  /** Stops serving layers, which nothing mounts: afterwards nothing holds their files. */
  readonly forget: (diffIds: readonly DiffId[]) => Promise<void>
}
