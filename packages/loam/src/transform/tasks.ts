import { mkdirSync } from 'node:fs'
import { LazyIndexDirectory } from '../content/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import { diskUsage, syncFileSystem } from '../linux/index.ts'
import {
  applyLayer,
  FileTree,
  type LayerLimits,
  type LayerSummary,
  OverlayView,
  planFixup,
  ROOT,
  summarizeLayer,
} from '../tree/index.ts'
import { setTotalBytes } from '../activity/index.ts'
import { checkCanceled, copyFile, hashFile, readMetaImage, writeFile, writeImageFile } from './image-file.ts'
import { TarReaders } from './layer-data.ts'
import { checkSpans } from './check-spans.ts'
import { compareTrees } from './compare-trees.ts'
import { ContentsReader } from './contents.ts'
import type { ReadTree } from './contents-index.ts'
import { reportLayers } from './layer-report.ts'
import { type LayerFiles, treeKey } from './layer-files.ts'
import type { LayerTask, TaskResult } from './layer-task.ts'
import { assemble, ingest, writeIndex } from './ingest-task.ts'
import { TreeCache } from './tree-cache.ts'
import type { PackReport } from './folder-reader.ts'
import { gatherFolder } from './gather-folder.ts'
import { copyTree } from './copy-tree.ts'
import { packFiles, packFolder } from './pack-folder.ts'
import { describeLayer, makeChunkedIndex, makeLazyIndex } from './lazy-index-task.ts'
import { writeLayerImages } from './layer-images.ts'
import { readLayer } from './read-layer.ts'
import { writeSpans } from './span-task.ts'
import { dataBytes, surveyTree } from './tree-survey.ts'
import { writeTreeTar } from './tree-tar.ts'
import { unpackTar } from './unpack-tar.ts'
import { writeTree } from './write-tree.ts'

/** State of a thread for its tasks. */
export interface TaskContext {
  /** Not zero when the task is to stop. */
  readonly canceled: Int32Array
  readonly trees: TreeCache
  readonly contents: ContentsReader
}

/** Returns the reader that lists directories of images in this thread. */
export function createContentsReader(): ContentsReader {
  return new ContentsReader((layer, limits) => readTree(layer, limits, new TreeCache()))
}

/** Runs one task in this thread. `source` is the blob of an ingest. On failure the caller removes the partial result. */
export async function runTask(
  task: LayerTask,
  source: AsyncIterable<Buffer>,
  { canceled, trees, contents }: TaskContext,
): Promise<TaskResult<LayerTask>> {
  if (isLook(task)) return lookInto(task, canceled, contents)
  if (isOfFiles(task)) return readFiles(task, canceled)
  switch (task.kind) {
    case 'ingest':
      return ingest(task, source, { canceled, trees })
    case 'spans':
      return writeSpans(task, source)
    case 'assemble':
      return assemble(task, source, { canceled, trees })
    case 'lazy-index':
      return makeLazyIndex(task, source)
    case 'chunked-index':
      return makeChunkedIndex(task, source)
    case 'shared-index':
      return new LazyIndexDirectory(task.directory).find(task.blob, task.maxBytes)
    case 'skeleton':
      return describeLayer(task, trees)
    case 'measure':
      return diskUsage(task.folder, {
        check: () => {
          checkCanceled(canceled, task.folder)
        },
      })
    case 'sync':
      syncFileSystem(task.folder)
      break
    case 'check-spans':
      return checkSpans(task, canceled)
    case 'hash':
      return hashFile(task.path, task.algorithm, canceled)
    case 'meta':
      return buildMetaImage(task)
    case 'build':
      try {
        build(task, { canceled, trees })
      } finally {
        trees.clear()
      }
      break
    case 'export':
      exportTree(task, canceled)
      break
    case 'layer-images':
      writeLayerImages(task, (layer) => readTree(layer, task.limits, new TreeCache()), canceled)
      break
    case 'copy':
      copyFile(task, canceled)
      break
  }
  return undefined
}

/** A task with files of a folder that do not belong to the store. */
type FileTask = Extract<LayerTask, { kind: 'pack' | 'gather' | 'copy-tree' | 'pack-files' | 'unpack-tar' }>

function isOfFiles(task: LayerTask): task is FileTask {
  return ['pack', 'gather', 'copy-tree', 'pack-files', 'unpack-tar'].includes(task.kind)
}

async function readFiles(task: FileTask, canceled: Int32Array): Promise<PackReport> {
  const check = () => {
    checkCanceled(canceled, 'files')
  }
  switch (task.kind) {
    case 'pack':
      return pack(task, canceled)
    case 'gather':
      return gather(task, canceled)
    case 'copy-tree':
      return copyTree({ ...task, check })
    case 'unpack-tar':
      return unpackTar({ ...task, canceled, check })
    case 'pack-files': {
      let report: PackReport = { leftOut: [] }
      const { target, ...options } = task
      const produce = (write: (chunk: Buffer) => void) => {
        report = packFiles(task.source, { ...options, write, check })
      }
      writeFile(target, produce, { as: 'export', canceled })
      return report
    }
  }
}

/** A task that reads trees and changes nothing. */
type Look = Extract<LayerTask, { kind: 'survey' | 'contents' | 'report' | 'compare' }>

function isLook(task: LayerTask): task is Look {
  return ['survey', 'contents', 'report', 'compare'].includes(task.kind)
}

function lookInto(task: Look, canceled: Int32Array, contents: ContentsReader): TaskResult<typeof task> {
  const check = () => {
    checkCanceled(canceled, 'a report')
  }
  switch (task.kind) {
    case 'survey':
      return surveyTree(mergeLayers(task.layers, task.limits, new TreeCache()))
    case 'contents':
      return contents.read(task, check)
    case 'report':
      return reportLayers(task, readAnyTree(check))
    case 'compare':
      return compareTrees(task, readAnyTree(check), check)
  }
}

/** Reads trees one after the other, until the caller cancels. */
function readAnyTree(check: () => void): ReadTree {
  return (layer, limits) => {
    check()
    return readTree(layer, limits, new TreeCache())
  }
}

function pack(
  { folder, target, as, idMapping, latestSeconds }: Extract<LayerTask, { kind: 'pack' }>,
  canceled: Int32Array,
): PackReport {
  let report: PackReport = { leftOut: [] }
  const check = () => {
    checkCanceled(canceled, folder)
  }
  const produce = (write: (chunk: Buffer) => void) => {
    report = packFolder(folder, { as, idMapping, latestSeconds, write, check })
  }
  writeFile(target, produce, { as: 'export', canceled })
  return report
}

function gather(
  { folder, as, idMapping, files, metaPath }: Extract<LayerTask, { kind: 'gather' }>,
  canceled: Int32Array,
): PackReport {
  let gathered: ReturnType<typeof gatherFolder> | undefined
  const check = () => {
    checkCanceled(canceled, folder)
  }
  const produce = (write: (chunk: Buffer) => void) => {
    gathered = gatherFolder(folder, { as, idMapping, write, check })
  }
  writeFile(files.tarPath, produce, { as: 'cached', canceled })
  if (gathered === undefined) throw new LoamError('INTERNAL', `read ${folder}: nothing was read`)
  writeIndex(gathered.tree, metaPath, files)
  return { leftOut: gathered.leftOut }
}

function exportTree(task: Extract<LayerTask, { kind: 'export' }>, canceled: Int32Array): void {
  const { format, layers, target, limits } = task
  const [layer] = layers
  const tree =
    format === 'upper' && layer !== undefined
      ? readTree(layer, limits, new TreeCache())
      : mergeLayers(layers, limits, new TreeCache())
  if (task.latestSeconds !== undefined) tree.clampTimes(task.latestSeconds)
  setTotalBytes(canceled, dataBytes(tree))
  if (format === 'folder' || format === 'upper') {
    if (typeof target === 'number') throw new LoamError('INTERNAL', 'a descriptor is not a directory')
    writeTree(tree, { target, layers, whiteouts: format === 'upper' ? 'overlay' : 'none', canceled })
    return
  }
  if (format === 'erofs') {
    writeImageFile(tree, target, { contents: 'merged', data: 'disk', layers, as: 'export', canceled })
    return
  }
  using tars = new TarReaders(layers)
  const produce = (write: (chunk: Buffer) => void) => {
    writeTreeTar(tree, { readData: tars.read, write })
  }
  writeFile(target, produce, { as: 'export', canceled })
}

function build(
  task: Extract<LayerTask, { kind: 'build' }>,
  { canceled, trees }: Omit<TaskContext, 'contents'>,
): void {
  const { artifact, layers, target, limits } = task
  const [layer] = layers
  switch (artifact) {
    case 'unpacked':
      mkdirSync(target, { mode: 0o700 })
      if (layer !== undefined)
        writeTree(readTree(layer, limits, trees), { target, layers, whiteouts: 'overlay', canceled })
      break
    case 'merged':
      writeImageFile(mergeLayers(layers, limits, trees), target, {
        contents: 'merged',
        data: 'tar',
        layers,
        as: 'cached',
      })
      break
    case 'flat':
      mkdirSync(target, { mode: 0o700 })
      writeTree(mergeLayers(layers, limits, trees), { target, layers, whiteouts: 'none', canceled })
      break
    case 'fixup': {
      mkdirSync(target, { mode: 0o700 })
      const fixup = planStackFixup(layers, limits, trees)
      if (fixup !== undefined) writeTree(fixup, { target, layers, whiteouts: 'overlay', canceled })
    }
  }
}

function buildMetaImage({ layer, target, limits }: Extract<LayerTask, { kind: 'meta' }>): LayerSummary {
  const { tree, leftOut } = readLayer(layer.tarPath, limits)
  writeIndex(tree, target, layer)
  return summarizeLayer(tree, leftOut)
}

/** Plans the fixup for the unpacked layers of a stack, in the order in which the overlay backend stacks them. */
function planStackFixup(
  layers: readonly LayerFiles[],
  limits: LayerLimits,
  trees: TreeCache,
): FileTree | undefined {
  const merged = new FileTree()
  let view = new OverlayView()
  for (const [index, layer] of layers.entries()) {
    const tree = readTree(layer, limits, trees)
    applyLayer(merged, tree, index)
    // Nothing below an opaque root is stacked, and a layer that comes again only where it is topmost.
    if (tree.isOpaque(ROOT)) view = new OverlayView()
    const comesAgain = layers.slice(index + 1).some(({ diffId }) => diffId === layer.diffId)
    if (!comesAgain) view.add(tree, index)
  }
  return planFixup(merged, view)
}

/** One layer's tree at a time is in memory, besides the merged one. */
function mergeLayers(layers: readonly LayerFiles[], limits: LayerLimits, trees: TreeCache): FileTree {
  const merged = new FileTree()
  for (const [index, layer] of layers.entries()) applyLayer(merged, readTree(layer, limits, trees), index)
  return merged
}

/** The index is many times smaller than the tar, and holds the same. */
function readTree(layer: LayerFiles, limits: LayerLimits, trees: TreeCache): FileTree {
  const kept = trees.find(treeKey(layer))
  if (kept !== undefined) return kept
  const { tarPath, metaPath } = layer
  if (metaPath !== undefined) {
    try {
      return readMetaImage(metaPath)
    } catch (error) {
      // A damaged metadata image is no reason to fail: fsck reports and rebuilds it.
      if (!isLoamError(error, 'EROFS_INVALID')) throw error
    }
  }
  return readLayer(tarPath, limits).tree
}
