import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readFileSync, readSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { LAZY_INDEX_NAME, META_NAME, TAR_NAME, UNPACKED_NAME } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { finishDigest, parseDiffId, splitDigest } from '../image/index.ts'
import { isSkeletonOf, readLazyIndex } from '../lazy-index/index.ts'
import { TarReader } from '../tar/index.ts'
import { type FileTree, type LayerSummary, LayerTreeBuilder, summarizeLayer } from '../tree/index.ts'
import { checkCanceled, writeImageFile } from './image-file.ts'
import { type DeriveArtifacts, ingestLayer } from './ingest.ts'
import type { LayerTar } from './layer-files.ts'
import type { IngestResult, LayerTask } from './layer-task.ts'
import { writeLazyIndex } from './lazy-index-task.ts'
import type { TreeCache } from './tree-cache.ts'
import { writeTree } from './write-tree.ts'

const WINDOW_BYTES = 1 << 20

/** State of a thread that these tasks use. */
interface IngestContext {
  readonly canceled: Int32Array
  readonly trees: TreeCache
}

/** Creates the files of a layer from its blob. @throws as `ingestLayer` */
export async function ingest(
  task: Extract<LayerTask, { kind: 'ingest' }>,
  source: AsyncIterable<Buffer>,
  context: IngestContext,
): Promise<IngestResult> {
  mkdirSync(task.directory, { mode: 0o700 })
  const tarPath = join(task.directory, TAR_NAME)
  const made = new LayerArtifacts(task, context)
  const { diffId, tarBytes, lazyIndex } = await ingestLayer(source, { ...task, tarPath }, made.derive)
  if (lazyIndex !== undefined) writeLazyIndex(join(task.directory, LAZY_INDEX_NAME), lazyIndex)
  return { diffId, tarBytes, summary: made.summary }
}

/**
 * Verifies a tar that others write, and creates the other files of its layer. `source` yields how far the tar is here, as rising f64s: those that come at once
 * are in one chunk, and the last one counts. @throws DIGEST_MISMATCH, TAR_*, LAYER_LIMIT, and the errors of the source
 */
export async function assemble(
  task: Extract<LayerTask, { kind: 'assemble' }>,
  source: AsyncIterable<Buffer>,
  context: IngestContext,
): Promise<IngestResult> {
  const { diffId, directory, tarBytes, limits } = task
  const builder = new LayerTreeBuilder(limits)
  const reader = new TarReader((entry) => {
    builder.add(entry)
  })
  const { algorithm } = splitDigest(diffId)
  const hash = createHash(algorithm)
  const fd = openSync(join(directory, TAR_NAME), 'r')
  try {
    const window = Buffer.allocUnsafeSlow(WINDOW_BYTES)
    let at = 0
    for await (const places of source) {
      for (const end = places.readDoubleLE(places.length - 8); at < end; ) {
        checkCanceled(context.canceled, directory)
        const length = readSync(fd, window, 0, Math.min(window.length, end - at), at)
        if (length === 0) throw new LoamError('LAYER_DAMAGED', `read ${directory}: its tar ends at ${at}`)
        hash.update(window.subarray(0, length))
        reader.write(window.subarray(0, length))
        at += length
      }
    }
  } finally {
    closeSync(fd)
  }
  reader.end()
  const actual = parseDiffId(finishDigest(algorithm, hash))
  if (actual !== diffId)
    throw new LoamError('DIGEST_MISMATCH', `verify layer ${diffId}: its tar is ${actual}`)
  dropWrongIndex(task)
  const made = new LayerArtifacts(task, context)
  made.derive(builder.tree, builder.leftOutXattrs, diffId)
  return { diffId, tarBytes, summary: made.summary }
}

/** The spans of the index were right; its skeleton may lie all the same, and the index is going to be published as one of this store. */
function dropWrongIndex({ directory, tarBytes, limits }: Extract<LayerTask, { kind: 'assemble' }>): void {
  const path = join(directory, LAZY_INDEX_NAME)
  const fd = openSync(join(directory, TAR_NAME), 'r')
  const read = (tarStart: number, lengthBytes: number) => {
    const bytes = Buffer.alloc(lengthBytes)
    readSync(fd, bytes, 0, lengthBytes, tarStart)
    return bytes
  }
  try {
    const index = readLazyIndex(readFileSync(path), limits)
    if (!isSkeletonOf(index.skeletonPieces(), tarBytes, read)) unlinkSync(path)
  } finally {
    closeSync(fd)
  }
}

/** What is made beside a tar from its tree. */
class LayerArtifacts {
  readonly #task: { readonly directory: string; readonly unpack: boolean }
  readonly #context: IngestContext
  #summary: LayerSummary | undefined

  constructor(task: { readonly directory: string; readonly unpack: boolean }, context: IngestContext) {
    this.#task = task
    this.#context = context
  }

  readonly derive: DeriveArtifacts = (tree, leftOut, diffId) => {
    const { directory, unpack } = this.#task
    const { canceled, trees } = this.#context
    const files = { diffId, tarPath: join(directory, TAR_NAME), metaPath: undefined, clonePath: undefined }
    trees.keep(diffId, tree)
    this.#summary = summarizeLayer(tree, leftOut)
    writeIndex(tree, join(directory, META_NAME), files)
    if (!unpack) return
    const target = join(directory, UNPACKED_NAME)
    mkdirSync(target, { mode: 0o700 })
    writeTree(tree, { target, layers: [files], whiteouts: 'overlay', canceled })
  }

  get summary(): LayerSummary {
    if (this.#summary !== undefined) return this.#summary
    throw new LoamError('INTERNAL', `ingest layer into ${this.#task.directory}: nothing was read`)
  }
}

/** Writes the metadata image of a layer to a new file. */
export function writeIndex(tree: FileTree, path: string, layer: LayerTar): void {
  writeImageFile(tree, path, { contents: 'layer', data: 'tar', layers: [layer], as: 'cached' })
}
