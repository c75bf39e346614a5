import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DiffId } from '../image/index.ts'
import {
  applyLayer,
  FileTree,
  type LayerLimits,
  type LayerSummary,
  selectPatch,
  summarizeLayer,
} from '../tree/index.ts'
import { ingestLayer, type LayerBlob } from './ingest.ts'
import { readLayerTree } from './tar-file.ts'
import { type LayerFiles, writeTree } from './write-tree.ts'

/** Name of the tar in a layer's folder. */
export const TAR_NAME = 'layer.tar'

/**
 * A form of a layer or of a stack of layers:
 *   fs     one layer as a folder for overlayfs
 *   patch  a folder to lay over the `fs` of a stack, where layers alone would show something else than the merged tree
 *   whole  the merged tree of a stack as a plain folder
 */
export type LayerForm = 'fs' | 'patch' | 'whole'

/** Work that a thread does: long, and all of it system calls or computation. */
export type LayerTask =
  | {
      /** Makes `directory` with a verified layer.tar, and `fs` in it when asked. The blob is streamed in. */
      readonly kind: 'ingest'
      readonly blob: LayerBlob
      readonly diffId: DiffId
      readonly directory: string
      readonly withFs: boolean
      readonly limits: LayerLimits
    }
  | {
      /** Makes the folder `target` in a form of these layers, base first. */
      readonly kind: 'build'
      readonly form: LayerForm
      readonly layers: readonly LayerFiles[]
      readonly target: string
      readonly limits: LayerLimits
    }

/** What an ingest found out about its layer; a build returns nothing. */
export interface IngestResult {
  readonly tarBytes: number
  readonly summary: LayerSummary
}

/** Runs one task in this thread. `source` is the blob of an ingest. On failure what was made so far stays, for the caller to remove. */
export async function runTask(
  task: LayerTask,
  source: AsyncIterable<Buffer>,
  canceled: Int32Array,
): Promise<IngestResult | undefined> {
  if (task.kind === 'build') {
    build(task, canceled)
    return undefined
  }
  mkdirSync(task.directory, { mode: 0o700 })
  const tarPath = join(task.directory, TAR_NAME)
  const { tarBytes, tree } = await ingestLayer(source, { ...task, tarPath })
  if (task.withFs) {
    const target = join(task.directory, 'fs')
    mkdirSync(target, { mode: 0o700 })
    writeTree(tree, {
      target,
      layers: [{ tarPath, clonePath: undefined }],
      form: 'overlay',
      canceled,
    })
  }
  return { tarBytes, summary: summarizeLayer(tree) }
}

function build(task: Extract<LayerTask, { kind: 'build' }>, canceled: Int32Array): void {
  const { form, layers, target, limits } = task
  mkdirSync(target, { mode: 0o700 })
  if (form === 'fs') {
    const [layer] = layers
    if (layer === undefined) return
    const tree = readLayerTree(layer.tarPath, limits)
    writeTree(tree, { target, layers, form: 'overlay', canceled })
    return
  }
  const merged = new FileTree()
  // One layer's tree at a time is in memory, besides the merged one.
  for (const [index, layer] of layers.entries()) {
    applyLayer(merged, readLayerTree(layer.tarPath, limits), index)
  }
  const selection = form === 'patch' ? selectPatch(merged) : undefined
  if (form === 'patch' && selection === undefined) return
  writeTree(merged, { target, layers, form: 'plain', selection, canceled })
}
