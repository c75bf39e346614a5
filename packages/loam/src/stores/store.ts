import type { FileLock } from '../linux/index.ts'
import type { LayerProgress } from '../layers/index.ts'
import type { Sweep } from '../content/index.ts'
import type { ChainId, DiffId, Digest, ImageConfig, Platform } from '../image/index.ts'
import type { RetryWait } from '../registry/index.ts'
import type { ImageRecord, LayerRecord } from '../metadata/index.ts'

/** An event during a pull. */
export type PullEvent =
  | {
      /** The name is being resolved. */
      readonly kind: 'resolving'
      /** Name of the image. */
      readonly name: string
    }
  | {
      /** No layer is pulled lazily, although that was asked for. */
      readonly kind: 'eager'
      /** Why not. */
      readonly why: string
    }
  | {
      /** A note for the user, for example about xattrs that a layer leaves out. */
      readonly kind: 'note'
      /** One line. */
      readonly text: string
      /** Whether it only advises. All others say what was done otherwise than it was asked, for example what was left out. */
      readonly isAdvice?: boolean
    }
  | {
      /** A file is downloaded that must be read before its content is known. */
      readonly kind: 'file'
      /** Where it comes from. */
      readonly address: string
      /** Bytes received. */
      readonly receivedBytes: number
      /** Whether it is complete. */
      readonly isDone: boolean
    }
  | ({
      /** A request is retried, after a wait that the server may have asked for. */
      readonly kind: 'retry'
    } & RetryWait)
  | {
      /** The name refers to this digest, of an index or of a manifest. */
      readonly kind: 'resolved'
      /** Name of the image. */
      readonly name: string
      /** What it refers to. */
      readonly digest: Digest
    }
  | {
      /** The image is for another platform than this machine, and no platform was requested. */
      readonly kind: 'other-platform'
      /** Name of the image. */
      readonly name: string
      /** The image's platform. */
      readonly platform: string
      /** This machine's platform. */
      readonly hostPlatform: string
    }
  | {
      /** The layers of the image are known. Events of each of them follow. */
      readonly kind: 'layers'
      /** Each layer once, base first. */
      readonly layers: readonly {
        /** Digest of its blob. */
        readonly digest: Digest
        /** Position in the image, base first. */
        readonly index: number
        /** Size of its blob in bytes. */
        readonly totalBytes: number
      }[]
    }
  | {
      /** Progress of work with files: a layer is packed or verified, an output is written. */
      readonly kind: 'work'
      /** What is done, as a short phrase. */
      readonly what: string
      /** Bytes that were read or written. */
      readonly doneBytes: number
      /** All bytes; undefined if that is not known. */
      readonly totalBytes: number | undefined
      /** Whether it is complete. */
      readonly isDone: boolean
    }
  | {
      /** The progress of a layer. */
      readonly kind: 'layer'
      /** Digest of its blob. */
      readonly digest: Digest
      /** Position in the image, base first. */
      readonly index: number
      /** How many layers the image has. */
      readonly count: number
      /** Its progress. */
      readonly progress: LayerProgress
    }

export interface GetOptions {
  /** Undefined: this machine's, or the only one that the image has. */
  readonly platform?: Platform | undefined
  /** Use the image in the store, and ask the source only for missing parts. False: ask the source what the name refers to now. */
  readonly cached: boolean
  /** Build the layers' overlay folders in the same pass. */
  readonly unpack?: boolean
  /**
   * Whether layers may be partial: those with a trusted lazy index are not fetched. `asked`: the user asked for it, and gets an event if there is none.
   * Undefined: all layers are complete.
   */
  readonly lazy?: 'auto' | 'asked' | undefined
  /** Why the caller cannot leave data for later. Layers that are partial already are used. */
  readonly whyEager?: string | undefined
  /** Digest of the only artifact of lazy indexes that is meant. */
  readonly lazyIndex?: Digest | undefined
  /** Return only when all of it is on the disk, so that it survives a power failure. */
  readonly sync?: boolean
  readonly signal?: AbortSignal | undefined
  readonly onEvent?: ((event: PullEvent) => void) | undefined
}

/** An image of the store with all its layers, which stay there until it is disposed. */
export class StoredImage implements Disposable {
  readonly record: ImageRecord
  /** Digest that the name refers to: of the index when there is one. */
  readonly targetDigest: Digest
  readonly manifest: Buffer
  readonly config: ImageConfig
  readonly configBytes: Buffer
  /** Base first. They are complete unless the caller asked for lazy ones. */
  readonly layers: readonly LayerRecord[]
  readonly #leases: readonly FileLock[]

  constructor(
    image: Pick<StoredImage, 'record' | 'targetDigest' | 'manifest' | 'config' | 'configBytes' | 'layers'>,
    leases: readonly FileLock[],
  ) {
    this.record = image.record
    this.targetDigest = image.targetDigest
    this.manifest = image.manifest
    this.config = image.config
    this.configBytes = image.configBytes
    this.layers = image.layers
    this.#leases = leases
  }

  get chainId(): ChainId | undefined {
    return this.record.chainId
  }

  [Symbol.dispose](): void {
    for (const lease of this.#leases) lease.release()
  }
}

/** The result of a prune, or of a dry run. */
export interface PruneResult {
  /** Images that were removed. */
  readonly images: readonly {
    /** Digest of the manifest. */
    readonly digest: Digest
    /** Names that it had. */
    readonly names: readonly string[]
  }[]
  /** Layers that were removed. */
  readonly layers: readonly {
    /** The layer. */
    readonly diffId: Digest
    /** Size of its tar in bytes. */
    readonly tarBytes: number
  }[]
  /** Manifests, configs and other documents that were removed, and blobs of layers that were retained. */
  readonly blobs: readonly Digest[]
}

export interface PruneOptions {
  readonly dryRun: boolean
  /** Remove images with a name, too; images without one are always removed. */
  readonly named: boolean
  /** Remove local images, too, with and without a name. */
  readonly local: boolean
  /** Normalised references, and digests of images, to keep with all that they need. */
  readonly excluded: readonly string[]
  /** The only images that may be removed. Undefined: all that no container uses. */
  readonly only?: ReadonlySet<Digest>
  /** Layers in use by others, which the store does not know about. */
  readonly active?: ReadonlySet<DiffId>
}

/**
 * A read-through cache of images. `Source` answers one image request. `get` returns every layer of the image or fails;
 * `recover` makes the store consistent after a crash; `prune` removes images that no container uses and that may be removed.
 * All may run concurrently, in one process and in several.
 */
export interface Store<Source> {
  readonly recover: () => Promise<Sweep>
  readonly get: (source: Source, options: GetOptions) => Promise<StoredImage>
  readonly prune: (options: PruneOptions) => Promise<PruneResult>
}
