import type { Sweep } from '../content/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import type { DecisionRecord, ImageRecord } from '../metadata/index.ts'
import type { PruneResult } from '../stores/index.ts'
import type { LeftOutXattrs } from '../tree/index.ts'

/** An image that is in the store. */
export interface PulledImage {
  /** What was asked for, normalised. */
  readonly name: string
  /** What the name stands for: digest of the index when there is one, else of the manifest. */
  readonly digest: Digest
  /** What the store has recorded of it. */
  readonly image: ImageRecord
}

/** What a prune did, or would. */
export interface PruneReport extends PruneResult {
  /** What could not be removed, with the reason; it is tried again at the next prune or recovery. */
  readonly failed: Sweep['failed']
}

/** What a collection did, or would. */
export interface CollectionReport extends PruneResult {
  /** Why something had to go; empty when nothing had to. */
  readonly reasons: readonly string[]
  /** Bytes that were to be freed. */
  readonly wantedBytes: number
  /** Bytes of the layers that went, or would go. */
  readonly freedBytes: number
}

/** An image of the store with its names. */
export interface ListedImage extends ImageRecord {
  /** Its names; empty for an image without one. */
  readonly names: readonly string[]
  /** Why its manifest or config cannot be read; undefined for a sound image. */
  readonly damage: string | undefined
}

/** All that is known about an image. */
export interface ImageInspection {
  /** What the store has recorded of it, with its names. */
  readonly image: ListedImage
  /** The manifest as the registry has it: parsed JSON. */
  readonly manifest: unknown
  /** The config as the registry has it: parsed JSON. */
  readonly config: unknown
  /** By which rules of the signature policy it was let in; empty where none was in force. */
  readonly decisions: readonly DecisionRecord[]
  /** Layers whose files do not get all of their xattrs. */
  readonly leftOutXattrs?: readonly ({
    /** The layer. */
    readonly diffId: DiffId
  } & LeftOutXattrs)[]
  /** Of an Appc image, its own. */
  readonly appcManifest?: unknown
}
