import { join } from 'node:path'
import { type IngestArea, layerPath, type StorePaths } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import { removeTree } from '../linux/index.ts'
import type { LayerLimits, LayerSummary } from '../tree/index.ts'
import { type LayerForm, TAR_NAME } from './tasks.ts'
import type { LayerWorkers } from './worker-pool.ts'
import type { LayerFiles } from './write-tree.ts'

/** A form, and the layers that it is made of, base first. */
export interface WantedForm {
  readonly owner: Digest
  readonly form: LayerForm
  readonly layers: readonly DiffId[]
}

export interface FormMakerOptions {
  readonly paths: StorePaths
  readonly workers: LayerWorkers
  readonly ingest: () => IngestArea
  readonly limits: LayerLimits
}

/** Makes forms in the area for what is unfinished. Who asks moves them from there, or removes them; nothing is left on failure. */
export class FormMaker {
  readonly #options: FormMakerOptions

  constructor(options: FormMakerOptions) {
    this.#options = options
  }

  /** Makes a form of layers, base first, and returns its path. */
  async make(
    form: LayerForm,
    layers: readonly LayerFiles[],
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const { ingest, limits, workers } = this.#options
    if (form === 'tar' || form === 'index')
      throw new LoamError('SYSTEM', `make form ${form}: it is made with its layer`)
    const target = ingest().newPath(form)
    try {
      await workers.run({ kind: 'build', form, layers, target, limits }, { signal })
      return target
    } catch (error) {
      removeTree(target)
      throw error
    }
  }

  /** Makes the index of a layer from its tar alone, and describes the layer. */
  async makeIndex(
    diffId: DiffId,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly path: string; readonly summary: LayerSummary }> {
    const { ingest, limits, paths, workers } = this.#options
    const path = ingest().newPath('index')
    const layer = { diffId, tarPath: join(layerPath(paths, diffId), TAR_NAME) }
    try {
      return { path, summary: await workers.run({ kind: 'index', layer, target: path, limits }, { signal }) }
    } catch (error) {
      removeTree(path)
      throw error
    }
  }
}
