import { existsSync } from 'node:fs'
import { traced } from '../activity/index.ts'
import {
  type ArtifactKind,
  artifactPath,
  leaseOrMake,
  lockPath,
  type Removals,
  setAside,
  SingleFlight,
  type STACK_KINDS,
  stackPath,
} from '../content/index.ts'
import { deviceTag } from '../erofs/index.ts'
import { LoamError } from '../errors/index.ts'
import { type ChainId, type DiffId, type Digest, parseDiffId } from '../image/index.ts'
import { FileLock, removeTree } from '../linux/index.ts'
import type { ArtifactRecord, MetadataStore } from '../metadata/index.ts'
import type { LayerFiles } from '../transform/index.ts'
import { type LayerSummary, TREE_GENERATION } from '../tree/index.ts'
import { ArtifactBuilder, type ArtifactBuilderOptions, type WantedArtifact } from './artifact-builder.ts'
import { newArtifactRecord } from './artifact-record.ts'
import { type ImageDevice, readDeviceTable } from './device-table.ts'
import { moveInto, removeIfEmpty, statOf } from './file-state.ts'
import { hashFile } from './worker-pool.ts'

/** Artifacts that are one file. */
const FILE_KINDS: readonly ArtifactKind[] = ['tar', 'meta', 'merged']

/** After this time the kernel has written dirty data (vm.dirty_expire_centisecs is 30 s), and waiting for the disk is cheap. */
const WRITEBACK_MS = 60_000

export interface ArtifactStoreOptions extends ArtifactBuilderOptions {
  readonly metadata: MetadataStore
  readonly bootId: string
  readonly removals: Removals
}

/** The merged image of a stack of layers, and the tars that are its devices, in their order. */
export interface MergedImage {
  readonly path: string
  readonly sizeBytes: number
  readonly devices: readonly (Omit<ImageDevice, 'tag'> & {
    readonly diffId: DiffId
    readonly path: string
  })[]
}

/**
 * Keeps the artifacts of layers and of stacks of layers, which can be rebuilt at any time. A build does not wait for the disk: an artifact
 * that may not be on the disk yet is valid only until the machine reboots. Locks: each artifact has a lock file; a user of the artifact holds
 * the lock shared while the artifact is built, and a build or a removal holds it exclusively.
 */
export class ArtifactStore {
  readonly #options: ArtifactStoreOptions
  readonly #builder: ArtifactBuilder
  readonly #flights = new SingleFlight()
  #noting: Promise<void> | undefined

  constructor(options: ArtifactStoreOptions) {
    this.#options = options
    this.#builder = new ArtifactBuilder(options)
  }

  /** Returns whether the artifact of a record was built by an earlier generation. */
  isOutdated({ kind, generation }: ArtifactRecord): boolean {
    return kind !== 'tar' && generation !== TREE_GENERATION
  }

  /** Returns whether a mount of the artifact shows what one that is built now would show. */
  isCurrent(owner: Digest, kind: ArtifactKind): boolean {
    const record = this.#options.metadata.layers.findArtifact(owner, kind)
    return record !== undefined && !this.isOutdated(record)
  }

  path(owner: Digest, kind: ArtifactKind): string {
    return artifactPath(this.#options.paths, owner, kind)
  }

  /**
   * Ensures that the `fs` directories of layers exist, and returns their paths. The caller holds leases on the layers and has
   * written the row of a root filesystem, which keeps the artifacts from then on.
   */
  async unpack(diffIds: readonly DiffId[], signal?: AbortSignal): Promise<string[]> {
    return Promise.all(
      diffIds.map(async (diffId) =>
        this.#ensure({ owner: diffId, kind: 'unpacked', layers: [diffId] }, signal),
      ),
    )
  }

  /**
   * Ensures that the merged image of a stack of layers exists, base first. Returns its file and the files that hold its data, in the
   * order of its devices. The caller has the same duties as for `unpack`. The cost is linear in files and independent of their sizes.
   */
  async mergedImage(chainId: ChainId, layers: readonly DiffId[], signal?: AbortSignal): Promise<MergedImage> {
    const path = await this.createStack({ chainId, kind: 'merged', layers }, signal)
    const layerOfTag = new Map(layers.map((diffId) => [deviceTag(diffId), diffId]))
    const { imageBytes: sizeBytes, devices } = readDeviceTable(path)
    return {
      path,
      sizeBytes,
      devices: devices.map(({ tag, ...place }) => {
        const diffId = layerOfTag.get(tag)
        if (diffId !== undefined) return { ...place, diffId, path: this.path(diffId, 'tar') }
        throw new LoamError(
          'EROFS_INVALID',
          `mount ${path}: it needs layer ${tag}, which the image does not have`,
        )
      }),
    }
  }

  /** Ensures that an artifact of a stack of layers exists, base first, and returns its path. The caller has the same duties as for `unpack`. */
  async createStack(
    stack: {
      readonly chainId: ChainId
      readonly kind: (typeof STACK_KINDS)[number]
      readonly layers: readonly DiffId[]
    },
    signal?: AbortSignal,
  ): Promise<string> {
    return this.#ensure({ ...stack, owner: stack.chainId }, signal)
  }

  async #ensure(wanted: WantedArtifact, signal: AbortSignal | undefined): Promise<string> {
    const { owner, kind } = wanted
    using _lease = await leaseOrMake(
      lockPath(this.#options.paths, kind, owner),
      () => this.#has(owner, kind),
      async (given) => {
        await traced('artifact.build', { kind, owner }, async () => this.#build(wanted, given))
      },
      { signal, flights: this.#flights },
    )
    return this.path(owner, kind)
  }

  #has(owner: Digest, kind: ArtifactKind): boolean {
    const record = this.#options.metadata.layers.findArtifact(owner, kind)
    if (record === undefined || this.isOutdated(record)) return false
    return this.isThere(owner, kind) && this.counts(record)
  }

  /** Returns whether there is what an artifact should be at its path: a regular file or a directory. */
  isThere(owner: Digest, kind: ArtifactKind): boolean {
    const stats = statOf(this.path(owner, kind))
    return (FILE_KINDS.includes(kind) ? stats?.isFile() : stats?.isDirectory()) ?? false
  }

  /** Returns whether the file of a record is known to have the content that was written to it. */
  counts(record: ArtifactRecord): boolean {
    if (record.isDurable) return true
    if (record.bootId !== this.#options.bootId) return false
    if (record.createdAtMs < Date.now() - WRITEBACK_MS) this.#noting ??= this.#noteWritten()
    return true
  }

  /** Syncs the disk and records it, so that the next boot need not rebuild. The caller does not wait; after a failure the next caller retries. */
  async #noteWritten(): Promise<void> {
    const { metadata, bootId, paths, workers } = this.#options
    const written = metadata.layers.listUnsynced(bootId)
    try {
      await workers.run({ kind: 'sync', folder: paths.root })
      await metadata.layers.markSynced(written)
    } catch {
      // The disk fails: the next user of the artifact gets the error.
    } finally {
      this.#noting = undefined
    }
  }

  /** Waits until the database has recorded which artifacts are on the disk. */
  async settle(): Promise<void> {
    await this.#noting
  }

  /** Returns the files from which a thread reads a layer. */
  filesOf(diffId: DiffId, clonePath: string | undefined): LayerFiles {
    const metaPath = this.#has(diffId, 'meta') ? this.path(diffId, 'meta') : undefined
    return {
      diffId,
      tarPath: this.path(diffId, 'tar'),
      metaPath,
      clonePath,
      indexDigest: this.#indexOf(diffId),
    }
  }

  /** Returns the digest of the lazy index of a layer that is partial now. */
  #indexOf(diffId: DiffId): Digest | undefined {
    const { layers } = this.#options.metadata
    return layers.find(diffId)?.data === 'partial' ? layers.partialSource(diffId)?.indexDigest : undefined
  }

  async #build(wanted: WantedArtifact, signal: AbortSignal | undefined): Promise<void> {
    const made = await this.#make(wanted, signal)
    try {
      const record = await this.#replace(wanted.owner, wanted.kind, made)
      await this.#options.metadata.layers.putArtifact(record)
    } finally {
      await removeTree(made)
    }
  }

  async #make({ kind, layers }: WantedArtifact, signal: AbortSignal | undefined): Promise<string> {
    const files = layers.map((diffId) => this.filesOf(diffId, undefined))
    return this.#builder.make(kind, files, signal)
  }

  /** Moves a new artifact to its path, and returns its row. The row of the earlier one does not apply to it. */
  async #replace(owner: Digest, kind: ArtifactKind, made: string): Promise<ArtifactRecord> {
    const { paths, metadata, bootId, removals } = this.#options
    const final = this.path(owner, kind)
    const record = metadata.layers.findArtifact(owner, kind)
    if (record !== undefined) await metadata.layers.removeArtifact(owner, kind)
    const isLaidOn = record !== undefined && this.isOutdated(record) && metadata.layers.isFolderUsed(owner)
    if (isLaidOn && existsSync(final)) setAside(final)
    else removals.discard(paths, final)
    moveInto(made, final)
    return newArtifactRecord(owner, kind, bootId)
  }

  /** Returns whether an artifact that is a file equals one that would be built now. */
  async isCorrect(wanted: WantedArtifact, signal?: AbortSignal): Promise<boolean> {
    const { metadata, workers } = this.#options
    const { owner, kind } = wanted
    if (metadata.layers.findArtifact(owner, kind) === undefined || !this.isThere(owner, kind)) return false
    const path = this.path(owner, kind)
    const made =
      kind === 'meta'
        ? (await this.#builder.buildMeta(parseDiffId(owner), signal)).path
        : await this.#make(wanted, signal)
    try {
      const [is, ought] = await Promise.all([
        hashFile(workers, path, { signal }),
        hashFile(workers, made, { signal }),
      ])
      return is === ought
    } finally {
      await removeTree(made)
    }
  }

  /** Removes the record of an artifact that is not on the disk any more. */
  async forget(owner: Digest, kind: ArtifactKind): Promise<void> {
    await this.#options.metadata.layers.removeArtifact(owner, kind)
    removeIfEmpty(stackPath(this.#options.paths, owner))
  }

  /**
   * Removes the records of the merged images that a layer may have part in, so that they are built again: those of images with that layer, and those of
   * stacks that no image has. Mounts keep the files that they show.
   */
  async forgetStacksOf(diffId: DiffId): Promise<void> {
    const { layers, images } = this.#options.metadata
    const without = new Set(
      images
        .list()
        .filter((image) => image.layers.every((layer) => layer.diffId !== diffId))
        .map(({ chainId }) => chainId),
    )
    for (const { owner, kind } of layers.listArtifacts())
      if (kind === 'merged' && !without.has(owner as ChainId)) await layers.removeArtifact(owner, kind)
  }

  /** Rebuilds an artifact and replaces the existing one. */
  async rebuild(wanted: WantedArtifact, signal?: AbortSignal): Promise<void> {
    const { paths, metadata } = this.#options
    const { owner, kind } = wanted
    using _lock = await FileLock.acquire(lockPath(paths, kind, owner), { signal })
    if (kind !== 'meta') {
      await this.#build(wanted, signal)
      return
    }
    const { artifact } = await this.renewMeta(parseDiffId(owner), signal)
    await metadata.layers.putArtifact(artifact)
  }

  /**
   * Rebuilds the metadata image of a layer by the rules of this generation, and replaces the existing one. Returns the row to write for
   * it, and the summary of the layer. The caller has the lock of the layer or of the image.
   */
  async renewMeta(
    diffId: DiffId,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly artifact: ArtifactRecord; readonly summary: LayerSummary }> {
    const { path, summary } = await this.#builder.buildMeta(diffId, signal)
    try {
      return { artifact: await this.#replace(diffId, 'meta', path), summary }
    } finally {
      await removeTree(path)
    }
  }
}
