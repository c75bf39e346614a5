import { createHash } from 'node:crypto'
import type { DiffId } from '../image/index.ts'
import { applyLayer, FileTree, OverlayView, planFixup, StackedLayer } from '../tree/index.ts'
import { checkCanceled, writeImageFile } from './image-file.ts'
import type { LayerFiles } from './layer-files.ts'
import type { LayerTask } from './layer-task.ts'

const UUID_BYTES = 16
/** Version and variant of RFC 9562 for a UUID that is a hash. */
const VERSION = 0x80
const VARIANT = 0x80

/**
 * Writes the layers of a stack as EROFS images of their own, each on the disk when it is made. Memory: the merged tree, the tree that overlayfs shows, and
 * one layer. Linear in entries, and for each layer that depends on those below it, in the entries of the merged tree. On failure the caller
 * removes the targets. @throws CANCELED, EROFS_INVALID, TAR_INVALID and system errors
 */
export function writeLayerImages(
  { layers }: Extract<LayerTask, { kind: 'layer-images' }>,
  readTree: (layer: LayerFiles) => FileTree,
  canceled: Int32Array,
): void {
  const merged = new FileTree()
  const view = new OverlayView()
  const last = layers.findLastIndex(({ target }) => target !== undefined)
  for (const [index, layer] of layers.slice(0, last + 1).entries()) {
    checkCanceled(canceled, layer.target ?? layer.tarPath)
    const tree = readTree(layer)
    const stacked = new StackedLayer()
    stacked.add(tree, index, merged)
    applyLayer(merged, tree, index)
    view.add(tree, index)
    const fixup = layer.dependsOnStack ? planFixup(merged, view) : undefined
    if (fixup !== undefined) {
      stacked.correct(fixup)
      view.add(fixup)
    }
    stacked.setRoot(merged)
    if (layer.target === undefined) continue
    writeImageFile(stacked.tree, layer.target, {
      contents: 'merged',
      data: 'blocks',
      uuid: uuidOf(layer.diffId),
      layers,
      as: 'export',
      canceled,
    })
  }
}

/** Each layer has a UUID of its own: overlayfs identifies lower files by it, and two layers must not share one. */
function uuidOf(diffId: DiffId): Buffer {
  const uuid = createHash('sha256').update(`containerd-cache ${diffId}`).digest().subarray(0, UUID_BYTES)
  uuid.writeUInt8((uuid.readUInt8(6) & 0x0f) | VERSION, 6)
  uuid.writeUInt8((uuid.readUInt8(8) & 0x3f) | VARIANT, 8)
  return uuid
}
