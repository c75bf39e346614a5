import type { Descriptor, Digest } from '../image/index.ts'

/** A manifest or an index that is written. */
export interface SinkManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Buffer
}

/** How a blob is there already. */
export type FoundBlob = 'exists' | 'mounted'

/** A place that images are copied to: a registry, a layout, an archive. Blobs come first, then manifests, the index of an image last. */
export interface ImageSink {
  /** Whether it can hold an image for one platform only. */
  readonly isSinglePlatform: boolean
  /** Returns how it has a blob; undefined if the blob is to be put. */
  readonly findBlob: (blob: Descriptor) => Promise<FoundBlob | undefined>
  /** Writes a blob. `open` verifies it: the last bytes follow only after all of them were right. */
  readonly putBlob: (blob: Descriptor, open: () => AsyncIterable<Buffer>) => Promise<void>
  /** Returns whether it has a manifest with everything that this refers to. */
  readonly hasManifest: (digest: Digest) => Promise<boolean>
  /** Returns whether it has another image or artifact under a name than one of this digest. Undefined for one whose names are new. */
  readonly hasAnother?: (name: string, digest: Digest) => Promise<boolean>
  /** Writes a manifest that an index refers to. */
  readonly putManifest: (manifest: SinkManifest) => Promise<void>
  /** Writes the manifest or index of an image, under its names. */
  readonly putImage: (manifest: SinkManifest, names: readonly string[]) => Promise<void>
}
