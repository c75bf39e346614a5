import type { DiffId } from '../image/index.ts'
import type { LayerBlob } from '../transform/index.ts'

/** A layer that is wanted, and where it comes from when it is not here. */
export interface WantedLayer {
  readonly diffId: DiffId
  readonly blob: LayerBlob
  /** Opens the blob, from an offset on; called when it has to be fetched. */
  readonly open: (options: {
    readonly offset?: number
    /** Undefined: to the end of the blob. */
    readonly lengthBytes?: number
    /** Called when the source can send the blob only as a whole. */
    readonly onWhole?: () => void
    readonly signal: AbortSignal
  }) => AsyncIterable<Buffer>
  /** Gets the lazy index of the blob, if one is at hand. It needs no trust. */
  readonly lazyIndex?: (() => Promise<Buffer | undefined>) | undefined
  /** Whether the received part is kept in a file, to resume from there. */
  readonly isResumable: boolean
  /** Keeps the connection of the blob open, also if the caller that requested it returns. */
  readonly keepOpen?: ((until: Promise<unknown>) => void) | undefined
  /** A transfer that came out wrong is tried once more from its start. */
  readonly isRemote: boolean
}
