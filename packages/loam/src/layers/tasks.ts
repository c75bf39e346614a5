import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { isLoamError, LoamError } from '../errors/index.ts'
import type { DiffId, Digest, DigestAlgorithm } from '../image/index.ts'
import { diskUsage, type OutputTarget, syncFileSystem } from '../linux/index.ts'
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
import {
  checkCanceled,
  copyFile,
  hashFile,
  type LayerTar,
  readMetaImage,
  TarReaders,
  writeFile,
  writeImageFile,
} from './image-file.ts'
import { ingestLayer, type LayerBlob } from './ingest.ts'
import { TreeCache } from './tree-cache.ts'
import type { PackedAs, PackReport } from './folder-reader.ts'
import { gatherFolder } from './gather-folder.ts'
import type { GatherFolder } from './tree-source.ts'
import { packFolder } from './pack-folder.ts'
import { readLayer } from './tar-file.ts'
import { surveyTree, type TreeSurvey } from './tree-survey.ts'
import { writeTreeTar } from './tree-tar.ts'
import { type LayerFiles, writeTree } from './write-tree.ts'

/** Names in a layer's folder: its tar, and what is made of it. */
export const TAR_NAME = 'layer.tar'
export const META_NAME = 'layer.erofs'
export const UNPACKED_NAME = 'fs'

/**
 * What is kept of a layer or of a stack of layers. All but `tar` is derived and can be rebuilt at any time:
 *   tar      one layer itself
 *   meta     one layer's tree as an EROFS image that points into the tar
 *   unpacked one layer as a directory for overlayfs
 *   merged   the merged tree of a stack as an EROFS image that points into the layers' tars
 *   fixup    a directory above the unpacked layers of a stack, where overlayfs would show something else than the merged tree without it
 *   flat     the merged tree of a stack as a plain directory
 */
export type ArtifactKind = 'tar' | 'meta' | 'unpacked' | 'merged' | 'fixup' | 'flat'
/** What is made of layers that are here. */
type DerivedKind = Exclude<ArtifactKind, 'tar' | 'meta'>

/** What a tree is exported as. */
export type ExportedAs = 'erofs' | 'tar' | 'folder' | 'upper'

/** Work that a thread does: long, and all of it system calls or computation. */
export type LayerTask =
  | {
      /** Makes `directory` with a verified layer.tar and its index, and `fs` in it when asked. The blob is streamed in. */
      readonly kind: 'ingest'
      readonly blob: LayerBlob
      readonly diffId: DiffId
      readonly directory: string
      readonly unpack: boolean
      /** Somebody is going to wait until it is on the disk. */
      readonly syncEarly: boolean
      readonly limits: LayerLimits
    }
  | {
      /** Makes `target`, a folder or an image, in an artifact of these layers, base first. */
      readonly kind: 'build'
      readonly artifact: DerivedKind
      readonly layers: readonly LayerFiles[]
      readonly target: string
      readonly limits: LayerLimits
    }
  | {
      /** Makes the file `target`, the index of a layer, from its tar, and describes the layer. */
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
      readonly target: OutputTarget
      readonly limits: LayerLimits
    }
  | {
      /** Tells what the merged tree of these layers takes of a file system. */
      readonly kind: 'survey'
      readonly layers: readonly LayerFiles[]
      readonly limits: LayerLimits
    }
  | {
      /** Writes to `target`: a folder as one tar. */
      readonly kind: 'pack'
      readonly folder: string
      readonly as: PackedAs
      readonly target: OutputTarget
    }
  | {
      /** Writes a folder to two new files: the data of its files, and an index of its tree over them. */
      readonly kind: 'gather'
      readonly folder: string
      readonly as: GatherFolder['as']
      readonly files: LayerTar
      readonly metaPath: string
    }
  | {
      /** Writes to `target`: a file, which has to have this digest. */
      readonly kind: 'copy'
      readonly path: string
      readonly digest: Digest | undefined
      readonly target: OutputTarget
    }
  | {
      /** Tells what a folder takes of the disk. */
      readonly kind: 'measure'
      readonly folder: string
    }
  | {
      /** Waits until all that was written to the file system of a folder is on the disk. */
      readonly kind: 'sync'
      readonly folder: string
    }
  | {
      /** Reads a file and returns its digest. */
      readonly kind: 'hash'
      readonly path: string
      readonly algorithm: DigestAlgorithm
    }

/** What an ingest found out about its layer. */
export interface IngestResult {
  readonly tarBytes: number
  readonly summary: LayerSummary
}

/** What a folder takes of the disk: hard-linked files count once. */
export interface FolderUsage {
  readonly bytes: number
  readonly inodes: number
}

/** What a thread has for its tasks. */
export interface TaskContext {
  /** Not zero when the task is to stop. */
  readonly canceled: Int32Array
  readonly trees: TreeCache
}

/** What a task returns. */
export type TaskResult<T extends LayerTask> = T extends { kind: 'ingest' }
  ? IngestResult
  : T extends { kind: 'hash' }
    ? Digest
    : T extends { kind: 'measure' }
      ? FolderUsage
      : T extends { kind: 'survey' }
        ? TreeSurvey
        : T extends { kind: 'pack' | 'gather' }
          ? PackReport
          : T extends { kind: 'meta' }
            ? LayerSummary
            : undefined

/** Runs one task in this thread. `source` is the blob of an ingest. On failure what was made so far stays, for the caller to remove. */
export async function runTask(
  task: LayerTask,
  source: AsyncIterable<Buffer>,
  { canceled, trees }: TaskContext,
): Promise<TaskResult<LayerTask>> {
  switch (task.kind) {
    case 'ingest':
      return ingest(task, source, { canceled, trees })
    case 'measure':
      return diskUsage(task.folder)
    case 'sync':
      syncFileSystem(task.folder)
      break
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
    case 'survey':
      return surveyTree(mergeLayers(task.layers, task.limits, new TreeCache()))
    case 'copy':
      copyFile(task, canceled)
      break
    case 'pack':
      return pack(task, canceled)
    case 'gather':
      return gather(task, canceled)
  }
  return undefined
}

async function ingest(
  task: Extract<LayerTask, { kind: 'ingest' }>,
  source: AsyncIterable<Buffer>,
  { canceled, trees }: TaskContext,
): Promise<IngestResult> {
  mkdirSync(task.directory, { mode: 0o700 })
  const tarPath = join(task.directory, TAR_NAME)
  const files = { diffId: task.diffId, tarPath, metaPath: undefined, clonePath: undefined }
  let summary: LayerSummary | undefined
  const { tarBytes } = await ingestLayer(source, { ...task, tarPath }, (tree, leftOut) => {
    trees.keep(task.diffId, tree)
    summary = summarizeLayer(tree, leftOut)
    writeIndex(tree, join(task.directory, META_NAME), files)
    if (!task.unpack) return
    const target = join(task.directory, UNPACKED_NAME)
    mkdirSync(target, { mode: 0o700 })
    writeTree(tree, { target, layers: [files], whiteouts: 'overlay', canceled })
  })
  if (summary === undefined) throw new LoamError('SYSTEM', `ingest layer ${task.diffId}: nothing was read`)
  return { tarBytes, summary }
}

function pack(
  { folder, target, as }: Extract<LayerTask, { kind: 'pack' }>,
  canceled: Int32Array,
): PackReport {
  let report: PackReport = { leftOut: [] }
  const check = () => {
    checkCanceled(canceled, folder)
  }
  const produce = (write: (chunk: Buffer) => void) => {
    report = packFolder(folder, { as, write, check })
  }
  writeFile(target, produce, { as: 'export', canceled })
  return report
}

function gather(
  { folder, as, files, metaPath }: Extract<LayerTask, { kind: 'gather' }>,
  canceled: Int32Array,
): PackReport {
  let gathered: ReturnType<typeof gatherFolder> | undefined
  const check = () => {
    checkCanceled(canceled, folder)
  }
  const produce = (write: (chunk: Buffer) => void) => {
    gathered = gatherFolder(folder, { as, write, check })
  }
  writeFile(files.tarPath, produce, { as: 'cached', canceled })
  if (gathered === undefined) throw new LoamError('SYSTEM', `read ${folder}: nothing was read`)
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
  if (format === 'folder' || format === 'upper') {
    if (typeof target === 'number') throw new LoamError('SYSTEM', 'a descriptor is not a directory')
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

function build(task: Extract<LayerTask, { kind: 'build' }>, { canceled, trees }: TaskContext): void {
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

/** Plans what the `fs` of layers need on top of them. Layers are stacked here as the overlay backend stacks them. */
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

function writeIndex(tree: FileTree, path: string, layer: LayerTar): void {
  writeImageFile(tree, path, { contents: 'layer', data: 'tar', layers: [layer], as: 'cached' })
}

/** One layer's tree at a time is in memory, besides the merged one. */
function mergeLayers(layers: readonly LayerFiles[], limits: LayerLimits, trees: TreeCache): FileTree {
  const merged = new FileTree()
  for (const [index, layer] of layers.entries()) applyLayer(merged, readTree(layer, limits, trees), index)
  return merged
}

/** The index is many times smaller than the tar, and holds the same. */
function readTree(
  { diffId, tarPath, metaPath }: LayerFiles,
  limits: LayerLimits,
  trees: TreeCache,
): FileTree {
  const kept = trees.find(diffId)
  if (kept !== undefined) return kept
  if (metaPath !== undefined) {
    try {
      return readMetaImage(metaPath)
    } catch (error) {
      // A damaged index is no reason to fail: fsck tells of it and makes it again.
      if (!isLoamError(error, 'EROFS_INVALID')) throw error
    }
  }
  return readLayer(tarPath, limits).tree
}
