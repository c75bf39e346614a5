import type { Sweep } from '../content/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import type { PrunedLayer } from '../layers/index.ts'
import type { DecisionRecord, ImageRecord } from '../metadata/index.ts'
import type { PruneResult } from '../stores/index.ts'
import type { LeftOutXattrs } from '../tree/index.ts'

/** An image that is in the store. */
export interface PulledImage {
  /** The requested name, normalised. */
  readonly name: string
  /** The digest that the name refers to: of the index if there is one, else of the manifest. */
  readonly digest: Digest
  /** The store's record of the image. */
  readonly image: ImageRecord
}

/** A name that was removed. */
export interface UntaggedName {
  /** The name, normalised. */
  readonly name: string
  /** Digests of the manifests of the images that had it: of several platforms, more than one. */
  readonly images: readonly Digest[]
}

/** The result of a prune, or of a dry run. */
export interface PruneReport extends PruneResult {
  /** Items that could not be removed, with the reason; the next prune or recovery retries them. */
  readonly failed: Sweep['failed']
}

/** The result of a collection, or of a dry run. */
export interface CollectionReport extends PruneResult {
  /** Layers whose data was evicted, or would be; their images stay. */
  readonly evicted: readonly PrunedLayer[]
  /** Why space had to be freed; empty if none had to. */
  readonly reasons: readonly string[]
  /** Bytes that the collection had to free. */
  readonly wantedBytes: number
  /** Bytes of the layers and the data that were removed, or would be. */
  readonly freedBytes: number
}

/** An image of the store with its names. */
export interface ListedImage extends ImageRecord {
  /** Bytes of its layers as tars: what they contain. `sizeBytes` is what its registry sends. */
  readonly tarBytes: number
  /** Its names; empty for an image without one. */
  readonly names: readonly string[]
  /** Why its manifest or config cannot be read; undefined for a sound image. */
  readonly damage: string | undefined
}

/** How an image was pulled lazily, or why it was not. */
export interface LazyInspection {
  /** Why no layer was pulled lazily at the last pull; undefined if one was. */
  readonly why: string | undefined
  /** The layers that were pulled lazily, base first. */
  readonly layers: readonly {
    /** The layer. */
    readonly diffId: DiffId
    /** Whether all of its data is here and verified. */
    readonly isComplete: boolean
    /** Digest of its lazy index. */
    readonly indexDigest: Digest
    /** The rule of `lazy_trust` that allowed the index, with its signer. */
    readonly trustedBy: string
    /** Why the index is not used any more; undefined if it is. */
    readonly denied: string | undefined
  }[]
}

/** Everything that the store knows about an image. */
export interface ImageInspection {
  /** The store's record of the image, with its names. */
  readonly image: ListedImage
  /** The manifest as in the registry: parsed JSON. */
  readonly manifest: unknown
  /** The config as in the registry: parsed JSON. */
  readonly config: unknown
  /** The rules of the signature policy that allowed the image; empty if no policy was in force. */
  readonly decisions: readonly DecisionRecord[]
  /** How it was pulled, if lazily or if lazy pulling was considered. */
  readonly lazy?: LazyInspection
  /** Layers whose files do not keep all of their xattrs. */
  readonly leftOutXattrs?: readonly ({
    /** The layer. */
    readonly diffId: DiffId
  } & LeftOutXattrs)[]
  /** The Appc manifest of an Appc image; undefined for other images. */
  readonly appcManifest?: unknown
}
