// The tasks of a worker, and their results.
import type { DerivedKind, SharedIndex } from '../content/index.ts'
import type { DiffId, Digest, DigestAlgorithm } from '../image/index.ts'
import type { BlobAccess, ChunkedLayer, IndexedBlob } from '../lazy-index/index.ts'
import type { FileOwner, IdMapping, OutputTarget } from '../linux/index.ts'
import type { LayerLimits, LayerSummary } from '../tree/index.ts'
import type { TreeContents } from './contents.ts'
import type { MountBelow } from './copy-tree.ts'
import type { CompareRequest, TreeComparison } from './compare-trees.ts'
import type { ReportRequest, TreeReport } from './layer-report.ts'
import type { GatheredAs, PackedAs, PackReport } from './folder-reader.ts'
import type { LayerBlob } from './ingest.ts'
import type { LayerFiles, LayerTar } from './layer-files.ts'
import type { TreeSurvey } from './tree-survey.ts'

/** Formats of an exported tree. */
export type ExportedAs = 'erofs' | 'tar' | 'folder' | 'upper'

/** A layer of a stack that is written as images. */
export interface StackedFiles extends LayerFiles {
  /** New file to write; undefined for none. */
  readonly target: string | undefined
  /** Whether its image depends on the layers below it. */
  readonly dependsOnStack: boolean
}

/** Work that a thread does: long, and all of it system calls or computation. */
export type LayerTask =
  | {
      /** Creates `directory` with a verified layer.tar and its metadata image, and `fs` in it if requested. The blob is streamed in. */
      readonly kind: 'ingest'
      readonly blob: LayerBlob
      /** Undefined if only the blob is known. */
      readonly diffId: DiffId | undefined
      readonly directory: string
      readonly unpack: boolean
      /** A caller is going to wait until it is on the disk. */
      readonly syncEarly: boolean
      /** Make the lazy index of the blob beside the tar, if the blob can have one. */
      readonly lazyIndex: boolean
      readonly limits: LayerLimits
    }
  | {
      /**
       * Creates the file `target`, the lazy index of a layer's blob, which is streamed in and verified. Returns false for a blob that cannot have one, or only
       * one that is useless: one compressed with xz or bzip2, and one with a sparse file whose data is not on blocks of the tar.
       */
      readonly kind: 'lazy-index'
      readonly blob: LayerBlob
      readonly diffId: DiffId
      readonly target: string
      readonly limits: LayerLimits
    }
  | {
      /**
       * Writes spans of a blob to where the tar has them, each verified by its sum. Their bytes of the blob are streamed in. The tar is there, of full size.
       */
      readonly kind: 'spans'
      readonly indexPath: string
      /** First span, and the one after the last. */
      readonly from: number
      readonly to: number
      readonly tarPath: string
      readonly limits: LayerLimits
    }
  | {
      /**
       * Verifies the layer.tar in `directory`, which others are writing, and creates what an ingest creates beside it. How far the tar is here is streamed in, in
       * pieces of one f64.
       */
      readonly kind: 'assemble'
      readonly diffId: DiffId
      readonly tarBytes: number
      readonly directory: string
      readonly unpack: boolean
      readonly limits: LayerLimits
    }
  | {
      /** Creates the file `target`, the lazy index of a zstd:chunked blob, from the tables in the blob: the bytes of `chunkedRange` are streamed in. */
      readonly kind: 'chunked-index'
      readonly blob: LayerBlob
      readonly diffId: DiffId
      readonly layer: ChunkedLayer
      readonly target: string
      readonly limits: LayerLimits
    }
  | {
      /** Creates the file `metaPath`, the metadata image of a layer, from its lazy index, as an ingest of the layer would. */
      readonly kind: 'skeleton'
      readonly indexPath: string
      readonly indexDigest: Digest
      readonly metaPath: string
      readonly limits: LayerLimits
    }
  | {
      /** Reads the lazy index of a blob in a directory that machines share. */
      readonly kind: 'shared-index'
      readonly directory: string
      readonly blob: Digest
      readonly maxBytes: number
    }
  | {
      /** Creates `target`, a folder or an image, as an artifact of these layers, base first. */
      readonly kind: 'build'
      readonly artifact: DerivedKind
      readonly layers: readonly LayerFiles[]
      readonly target: string
      readonly limits: LayerLimits
    }
  | {
      /** Creates the file `target`, the metadata image of a layer, from its tar, and describes the layer. */
      readonly kind: 'meta'
      readonly layer: LayerTar
      readonly target: string
      readonly limits: LayerLimits
    }
  | {
      /**
       * Writes to `target`: the merged tree of these layers, base first, as a disk image or as one tar; or fills a folder with it. `upper`
       * fills one with a single layer, for overlayfs.
       */
      readonly kind: 'export'
      readonly format: ExportedAs
      readonly layers: readonly LayerFiles[]
      /** Later times of files are this one, in seconds since 1970. Undefined: they stay. */
      readonly latestSeconds?: number | undefined
      readonly target: OutputTarget
      readonly limits: LayerLimits
    }
  | {
      /**
       * Writes each layer that has a target to it, as an EROFS image with all data inside: overlayfs shows the images that are stacked as it shows the
       * merged tree.
       */
      readonly kind: 'layer-images'
      /** Base first. */
      readonly layers: readonly StackedFiles[]
      readonly limits: LayerLimits
    }
  | {
      /** Returns the space that the merged tree of these layers needs in a file system. */
      readonly kind: 'survey'
      readonly layers: readonly LayerFiles[]
      readonly limits: LayerLimits
    }
  | {
      /** Lists one directory of the merged tree of these layers, or of one of them. The sums are kept for the next directory. */
      readonly kind: 'contents'
      readonly layers: readonly LayerFiles[]
      readonly limits: LayerLimits
      readonly layer: number | undefined
      readonly path: string
    }
  | ({
      /** Reports what each of these layers does, and its largest files. */
      readonly kind: 'report'
    } & ReportRequest)
  | ({
      /** Compares the merged trees of two lists of layers. */
      readonly kind: 'compare'
    } & CompareRequest)
  | {
      /** Writes to `target`: a folder as one tar. */
      readonly kind: 'pack'
      readonly folder: string
      readonly as: PackedAs
      readonly idMapping: IdMapping | undefined
      /** Later times of files are this one, in seconds since 1970. Undefined: they stay. */
      readonly latestSeconds?: number | undefined
      readonly target: OutputTarget
    }
  | {
      /** Writes a folder to two new files: the data of its files, and an index of its tree over them. */
      readonly kind: 'gather'
      readonly folder: string
      readonly as: GatheredAs
      readonly idMapping: IdMapping | undefined
      readonly files: LayerTar
      readonly metaPath: string
    }
  | {
      /** Copies a file or a directory beneath another directory. All three are descriptors of this process. */
      readonly kind: 'copy-tree'
      readonly source: number
      readonly target: number
      readonly name: string | undefined
      readonly mounts?: readonly MountBelow[] | undefined
      readonly owner: FileOwner | undefined
      readonly keepsOwners: boolean
    }
  | {
      /** Writes to `target`: a file or a directory, by its descriptor, as one tar. */
      readonly kind: 'pack-files'
      readonly source: number
      /** Name in the tar; undefined for the content of a directory. */
      readonly name: string | undefined
      readonly idMapping: IdMapping | undefined
      readonly target: OutputTarget
    }
  | {
      /** Unpacks a tar into a directory, by its descriptor. Creates `directory` for unfinished work. */
      readonly kind: 'unpack-tar'
      readonly packed: string
      readonly directory: string
      readonly target: number
      readonly mounts: readonly MountBelow[]
      readonly idMapping: IdMapping | undefined
      readonly limits: LayerLimits
    }
  | {
      /** Writes to `target`: a file, which has to have this digest. */
      readonly kind: 'copy'
      readonly path: string
      readonly digest: Digest | undefined
      readonly target: OutputTarget
    }
  | {
      /** Measures the disk usage of a folder. */
      readonly kind: 'measure'
      readonly folder: string
    }
  | {
      /** Waits until all that was written to the file system of a folder is on the disk. */
      readonly kind: 'sync'
      readonly folder: string
    }
  | {
      /** Reads spans of the tar of a partial layer, and finds those that are not as its lazy index says. */
      readonly kind: 'check-spans'
      readonly indexPath: string
      readonly tarPath: string
      readonly spans: readonly number[]
      readonly limits: LayerLimits
    }
  | {
      /** Reads a file and returns its digest. */
      readonly kind: 'hash'
      readonly path: string
      readonly algorithm: DigestAlgorithm
    }

/** Result of an ingest. */
export interface IngestResult {
  /** Digest of the tar. */
  readonly diffId: DiffId
  readonly tarBytes: number
  readonly summary: LayerSummary
}

/** A layer as its lazy index describes it. */
export interface DescribedLayer extends IndexedBlob {
  /** Number of spans. */
  readonly spans: number
  readonly access: BlobAccess
  readonly summary: LayerSummary
}

/** Spans of a partial layer, read and hashed. */
export interface CheckedSpans {
  /** Numbers of those that have another digest than the lazy index says. */
  readonly wrong: readonly number[]
  readonly hashedBytes: number
}

/** Disk usage of a folder: hard-linked files count once. */
export interface FolderUsage {
  readonly bytes: number
  readonly inodes: number
}

/** Result of a task. */
export type TaskResult<T extends LayerTask> = T extends { kind: 'ingest' | 'assemble' }
  ? IngestResult
  : T extends { kind: 'lazy-index' }
    ? boolean
    : T extends { kind: 'shared-index' }
      ? SharedIndex | undefined
      : T extends { kind: 'skeleton' }
        ? DescribedLayer
        : T extends { kind: 'check-spans' }
          ? CheckedSpans
          : T extends { kind: 'hash' }
            ? Digest
            : T extends { kind: 'measure' }
              ? FolderUsage
              : T extends { kind: 'contents' }
                ? TreeContents
                : T extends { kind: 'report' }
                  ? TreeReport
                  : T extends { kind: 'compare' }
                    ? TreeComparison
                    : T extends { kind: 'survey' }
                      ? TreeSurvey
                      : T extends { kind: 'pack' | 'gather' | 'copy-tree' | 'pack-files' | 'unpack-tar' }
                        ? PackReport
                        : T extends { kind: 'meta' }
                          ? LayerSummary
                          : undefined
