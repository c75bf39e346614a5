import { join } from 'node:path'
import { type IngestArea, layerPath, type StorePaths, type ArtifactKind, TAR_NAME } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import { removeTree } from '../linux/index.ts'
import type { LayerLimits, LayerSummary } from '../tree/index.ts'
import type { LayerWorkers } from './worker-pool.ts'
import type { LayerFiles } from '../transform/index.ts'

/** An artifact, and the layers that it is made of, base first. */
export interface WantedArtifact {
  readonly owner: Digest
  readonly kind: ArtifactKind
  readonly layers: readonly DiffId[]
}

export interface ArtifactBuilderOptions {
  readonly paths: StorePaths
  readonly workers: LayerWorkers
  readonly ingest: () => IngestArea
  readonly limits: LayerLimits
}

/** Builds artifacts in the area for unfinished work. The caller moves them from there, or removes them; nothing is left on failure. */
export class ArtifactBuilder {
  readonly #options: ArtifactBuilderOptions

  constructor(options: ArtifactBuilderOptions) {
    this.#options = options
  }

  /** Builds an artifact from layers, base first, and returns its path. */
  async make(
    kind: ArtifactKind,
    layers: readonly LayerFiles[],
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const { ingest, limits, workers } = this.#options
    if (kind === 'tar' || kind === 'meta')
      throw new LoamError('INTERNAL', `build ${kind}: it is written with its layer`)
    const target = ingest().newPath(kind)
    try {
      await workers.run({ kind: 'build', artifact: kind, layers, target, limits }, { signal })
      return target
    } catch (error) {
      await removeTree(target)
      throw error
    }
  }

  /** Builds the metadata image of a layer from its tar alone, and describes the layer. */
  async buildMeta(
    diffId: DiffId,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly path: string; readonly summary: LayerSummary }> {
    const { ingest, limits, paths, workers } = this.#options
    const path = ingest().newPath('meta')
    const layer = { diffId, tarPath: join(layerPath(paths, diffId), TAR_NAME) }
    try {
      return { path, summary: await workers.run({ kind: 'meta', layer, target: path, limits }, { signal }) }
    } catch (error) {
      await removeTree(path)
      throw error
    }
  }
}
