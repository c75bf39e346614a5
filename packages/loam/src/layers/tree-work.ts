import { type DiffId, type Digest, type DigestAlgorithm, splitDigest } from '../image/index.ts'
import type { IdMapping, OutputTarget } from '../linux/index.ts'
import type {
  DescribedLayer,
  ExportedAs,
  GatheredAs,
  LayerFiles,
  LayerTask,
  PackedAs,
  PackReport,
  TreeSurvey,
} from '../transform/index.ts'
import type { LayerLimits } from '../tree/index.ts'
import type { ArtifactStore } from './artifact-store.ts'
import { sizeOf } from './file-state.ts'
import { type GatheredTree, gatheredFiles, type TreeSource } from './tree-source.ts'
import { hashFile, type LayerWorkers, type OnBytes, type RunOptions } from './worker-pool.ts'

/** A lazy index, and where the metadata image goes that it gives. */
export type IndexFiles = Pick<
  Extract<LayerTask, { kind: 'skeleton' }>,
  'indexPath' | 'indexDigest' | 'metaPath'
>

export interface TreeWorkOptions {
  readonly artifacts: ArtifactStore
  readonly workers: LayerWorkers
  /** Threads that write to descriptors, whose readers may take any time. */
  readonly writers: LayerWorkers
  readonly limits: LayerLimits
}

/** How to read a folder. */
export interface FolderOptions<As extends PackedAs> {
  readonly as: As
  /** The user namespace of the container whose files they are. Undefined: that of this process. */
  readonly idMapping?: IdMapping | undefined
  readonly signal?: AbortSignal | undefined
  readonly onBytes?: OnBytes | undefined
}

/** Tasks with trees and files that do not belong to the store. On failure the caller removes the target. */
export class TreeWork {
  readonly #options: TreeWorkOptions

  constructor(options: TreeWorkOptions) {
    this.#options = options
  }

  /**
   * Creates a separate root filesystem in `target`: the merged tree of the layers, base first. With `fromUnpacked` the files
   * share their data with the layers' folders where the file system can do that. The caller holds the leases.
   */
  async copyTo(
    target: string,
    layers: readonly DiffId[],
    options: { readonly fromUnpacked: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<void> {
    const { artifacts, limits } = this.#options
    const files = layers.map((diffId) =>
      artifacts.filesOf(diffId, options.fromUnpacked ? artifacts.path(diffId, 'unpacked') : undefined),
    )
    await this.#options.workers.run(
      { kind: 'build', artifact: 'flat', layers: files, target, limits },
      options,
    )
  }

  /**
   * Writes a tree to a new file or a descriptor, as a disk image or as one tar, or into an empty folder that is there. The tree is the merged one of layers,
   * base first, of which the caller holds the leases; or that of a folder.
   */
  async exportTo(
    target: OutputTarget,
    format: ExportedAs,
    source: TreeSource,
    {
      latestSeconds,
      ...options
    }: Pick<RunOptions, 'signal' | 'onBytes'> & { readonly latestSeconds?: number | undefined } = {},
  ): Promise<void> {
    const { limits } = this.#options
    const layers = this.#filesOfSource(source)
    const task = { kind: 'export', format, layers, latestSeconds, target, limits } as const
    await this.#workersFor(target).run(task, options)
  }

  /** Writes those layers of a stack that have a target to new files on the disk, as EROFS images that overlayfs stacks. The caller holds the leases. */
  async writeLayerImages(
    stack: readonly {
      readonly diffId: DiffId
      readonly target: string | undefined
      readonly dependsOnStack: boolean
    }[],
    options: Pick<RunOptions, 'signal' | 'onBytes'> = {},
  ): Promise<void> {
    const { artifacts, limits, workers } = this.#options
    const layers = stack.map(({ diffId, target, dependsOnStack }) => ({
      ...artifacts.filesOf(diffId, undefined),
      target,
      dependsOnStack,
    }))
    await workers.run({ kind: 'layer-images', layers, limits }, options)
  }

  /** Returns the space that a tree needs in a file system. */
  async survey(source: TreeSource, signal?: AbortSignal): Promise<TreeSurvey> {
    const { limits, workers } = this.#options
    return workers.run({ kind: 'survey', layers: this.#filesOfSource(source), limits }, { signal })
  }

  #workersFor(target: OutputTarget): LayerWorkers {
    const { workers, writers } = this.#options
    return typeof target === 'number' ? writers : workers
  }

  #filesOfSource(source: TreeSource): LayerFiles[] {
    if ('layers' in source)
      return source.layers.map((diffId) => this.#options.artifacts.filesOf(diffId, undefined))
    return [{ ...gatheredFiles(source), metaPath: source.metaPath, clonePath: undefined }]
  }

  /** Reads a folder into two new files, which `exportTo` and `survey` take. Reports the files that were left out. */
  async gatherFolder(
    folder: string,
    made: GatheredTree,
    options: FolderOptions<GatheredAs>,
  ): Promise<PackReport> {
    const { as, idMapping, signal, onBytes } = options
    const { metaPath } = made
    const files = gatheredFiles(made)
    const task = { kind: 'gather', folder, as, idMapping, files, metaPath } as const
    return this.#options.workers.run(task, { signal, onBytes })
  }

  /** Writes a folder to a new file or a descriptor as one tar. Reports the files that were left out. */
  async packFolder(
    folder: string,
    target: OutputTarget,
    {
      as,
      idMapping,
      latestSeconds,
      signal,
      onBytes,
    }: FolderOptions<PackedAs> & { readonly latestSeconds?: number | undefined },
  ): Promise<PackReport> {
    const task = { kind: 'pack', folder, target, as, idMapping, latestSeconds } as const
    return this.#workersFor(target).run(task, { signal, onBytes })
  }

  /**
   * Copies a file or a directory beneath another directory, by their descriptors, which stay open until it has ended. `name`: of the copy; undefined
   * for the content of a directory. Reports the files that were left out.
   */
  async copyTree(
    copy: Omit<Extract<LayerTask, { kind: 'copy-tree' }>, 'kind'>,
    signal?: AbortSignal,
  ): Promise<PackReport> {
    return this.#options.workers.run({ kind: 'copy-tree', ...copy }, { signal })
  }

  /** Writes a file or a directory, by its descriptor, to a new file or a descriptor as one tar. Reports the files that were left out. */
  async packFiles(
    pack: Omit<Extract<LayerTask, { kind: 'pack-files' }>, 'kind'>,
    signal?: AbortSignal,
  ): Promise<PackReport> {
    return this.#workersFor(pack.target).run({ kind: 'pack-files', ...pack }, { signal })
  }

  /** Unpacks a tar into a directory, by its descriptor. Creates `directory` for unfinished work, which the caller removes. Reports the files that were left out. */
  async unpackTar(
    unpack: Omit<Extract<LayerTask, { kind: 'unpack-tar' }>, 'kind' | 'limits'>,
    signal?: AbortSignal,
  ): Promise<PackReport> {
    const { limits, workers } = this.#options
    return workers.run({ kind: 'unpack-tar', ...unpack, limits }, { signal })
  }

  /** Writes the tar of a layer to a new file or a descriptor, and verifies it on the way. @throws LAYER_DAMAGED */
  async copyTar(diffId: DiffId, target: OutputTarget, signal?: AbortSignal): Promise<void> {
    await this.#workersFor(target).run(
      { kind: 'copy', path: this.#options.artifacts.path(diffId, 'tar'), digest: diffId, target },
      { signal },
    )
  }

  /** Writes a file to a new file or a descriptor. With its digest it is verified on the way. @throws LAYER_DAMAGED */
  async copyFile(
    path: string,
    target: OutputTarget,
    { digest, ...options }: Pick<RunOptions, 'signal' | 'onBytes'> & { readonly digest?: Digest } = {},
  ): Promise<void> {
    await this.#workersFor(target).run({ kind: 'copy', path, digest, target }, options)
  }

  /**
   * Writes the metadata image that an ingest of a layer would write to a new file, from the layer's lazy index, and describes the layer. On failure the caller
   * removes the file. @throws LAZY_INDEX_INVALID, TAR_INVALID, TAR_UNSAFE, LAYER_LIMIT
   */
  async describeIndex(
    { indexPath, indexDigest, metaPath }: IndexFiles,
    signal?: AbortSignal,
  ): Promise<DescribedLayer> {
    const { limits, workers } = this.#options
    return workers.run({ kind: 'skeleton', indexPath, indexDigest, metaPath, limits }, { signal })
  }

  /** Waits until all that was written to the file system of a folder is on the disk. */
  async sync(folder: string): Promise<void> {
    await this.#options.workers.run({ kind: 'sync', folder })
  }

  /** Reads a file in a thread of its own and returns its digest. */
  async hashFile(path: string, signal?: AbortSignal, algorithm: DigestAlgorithm = 'sha256'): Promise<Digest> {
    return hashFile(this.#options.workers, path, { algorithm, signal })
  }

  /** Reads a file in a thread of its own, and returns whether it is a regular one and has a digest. */
  async hasDigest(path: string, digest: Digest, signal?: AbortSignal): Promise<boolean> {
    return (
      sizeOf(path) !== undefined &&
      (await this.hashFile(path, signal, splitDigest(digest).algorithm)) === digest
    )
  }
}
