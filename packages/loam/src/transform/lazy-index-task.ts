import { LoamError } from '../errors/index.ts'
import { chunkedRange, indexOfChunked, readLazyIndex, readSkeleton } from '../lazy-index/index.ts'
import { readStored } from '../linux/index.ts'
import { type TarEntry, TarReader } from '../tar/index.ts'
import { LayerTreeBuilder, summarizeLayer } from '../tree/index.ts'
import { isStoredOnBlocks } from '../erofs/index.ts'
import { writeFile, writeImageFile } from './image-file.ts'
import { ingestLayer } from './ingest.ts'
import type { DescribedLayer, LayerTask } from './layer-task.ts'
import type { TreeCache } from './tree-cache.ts'

/** Makes the lazy index of a blob, in a new file. Returns false if it cannot have one. On failure an incomplete file may be left. @throws as `ingestLayer` */
export async function makeLazyIndex(
  task: Extract<LayerTask, { kind: 'lazy-index' }>,
  source: AsyncIterable<Buffer>,
): Promise<boolean> {
  const request = { ...task, tarPath: undefined, lazyIndex: true, syncEarly: false }
  const { lazyIndex } = await ingestLayer(source, request, () => undefined)
  if (lazyIndex === undefined) return false
  writeLazyIndex(task.target, lazyIndex)
  return true
}

/** Makes the lazy index of a zstd:chunked blob, in a new file. @throws LAZY_INDEX_INVALID, DOCUMENT_INVALID, SIZE_MISMATCH, TAR_INVALID, LAYER_LIMIT */
export async function makeChunkedIndex(
  { blob, diffId, layer, target, limits }: Extract<LayerTask, { kind: 'chunked-index' }>,
  source: AsyncIterable<Buffer>,
): Promise<undefined> {
  const range = await readRange(source, chunkedRange(layer).lengthBytes, `read the TOC of ${blob.digest}`)
  const index = indexOfChunked(
    { blob: { digest: blob.digest, sizeBytes: blob.sizeBytes }, diffId },
    layer,
    range,
  )
  readLazyIndex(index, limits)
  writeLazyIndex(target, [index])
  return undefined
}

/** Reads a range into one buffer, so that it is in memory only once. @throws SIZE_MISMATCH if it has another length */
async function readRange(
  source: AsyncIterable<Buffer>,
  lengthBytes: number,
  attempted: string,
): Promise<Buffer> {
  const range = Buffer.allocUnsafeSlow(lengthBytes)
  let bytes = 0
  for await (const part of source) {
    if (bytes + part.length <= lengthBytes) range.set(part, bytes)
    bytes += part.length
    if (bytes > lengthBytes) break
  }
  if (bytes === lengthBytes) return range
  throw new LoamError('SIZE_MISMATCH', `${attempted}: expected ${lengthBytes} bytes`)
}

/** Writes a lazy index to a new file. */
export function writeLazyIndex(target: string, index: readonly Buffer[]): void {
  const produce = (write: (chunk: Buffer) => void) => {
    for (const part of index) write(part)
  }
  writeFile(target, produce, { as: 'cached' })
}

/** Writes the metadata image of a layer from its lazy index, and describes the layer. @throws LAZY_INDEX_INVALID, TAR_INVALID, TAR_UNSAFE, LAYER_LIMIT */
export function describeLayer(
  { indexPath, indexDigest, metaPath, limits }: Extract<LayerTask, { kind: 'skeleton' }>,
  trees: TreeCache,
): DescribedLayer {
  const index = readLazyIndex(readStored(indexPath), limits)
  const { blob, diffId, tarBytes, access, spans } = index
  const builder = new LayerTreeBuilder(limits)
  const reader = new TarReader((entry) => {
    checkData(entry)
    builder.add(entry)
  })
  for (const _piece of readSkeleton(index.skeletonPieces(), tarBytes, reader)) {
    // The reader has it.
  }
  trees.keep(indexDigest, builder.tree)
  const layer = { diffId, tarPath: '', tarBytes }
  writeImageFile(builder.tree, metaPath, { contents: 'layer', data: 'tar', layers: [layer], as: 'cached' })
  const summary = summarizeLayer(builder.tree, builder.leftOutXattrs)
  return { blob, diffId, tarBytes, access, spans: spans.count, summary }
}

/** The image must need no data of the tar, which is not here yet. */
function checkData({ sparse, sizeBytes, dataOffset }: TarEntry): void {
  if (sparse === undefined || isStoredOnBlocks(sparse, sizeBytes, dataOffset)) return
  throw new LoamError('LAZY_INDEX_INVALID', `read lazy index: the data of a sparse file is not on blocks`)
}
