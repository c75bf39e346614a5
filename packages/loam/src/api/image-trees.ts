import * as v from 'valibot'
import type { ImageContents, ImageDisk, ImageHistory, ImageLayers, TreeDiff } from '../images/index.ts'
import { chainId, count, diffId, digest, list, matching, orUndefined, path } from './schema.ts'

const fileTypes = ['file', 'directory', 'symlink', 'character', 'block', 'fifo'] as const

const shareFields = { bytes: count, files: count, hiddenBytes: count, hiddenFiles: count }
/** One directory of an image. */
export const ContentsSchema = matching<ImageContents>()(
  v.object({
    digest,
    layer: orUndefined(count),
    path: v.string(),
    bytes: count,
    files: count,
    hiddenBytes: count,
    entries: list(
      v.object({
        name: v.string(),
        type: v.picklist([...fileTypes, 'whiteout']),
        bytes: count,
        files: count,
        hiddenBytes: count,
        mode: count,
        uid: count,
        gid: count,
        mtimeMs: v.number(),
        layer: orUndefined(count),
        target: orUndefined(v.string()),
      }),
    ),
    leftOut: count,
    layers: list(v.object({ diffId, ...shareFields })),
    hidden: list(v.object({ layer: count, path: v.string(), bytes: count })),
  }),
)

const layerFields = {
  index: count,
  diffId,
  blobDigest: digest,
  blobBytes: count,
  tarBytes: orUndefined(count),
}
/** How an image was made. */
export const HistorySchema = matching<ImageHistory>()(
  v.object({
    digest,
    steps: list(
      v.object({
        created: orUndefined(v.string()),
        createdBy: v.string(),
        comment: v.string(),
        layer: orUndefined(v.object(layerFields)),
      }),
    ),
  }),
)
/** The layers of an image. */
export const LayersSchema = matching<ImageLayers>()(
  v.object({
    digest,
    bytes: count,
    files: count,
    hiddenBytes: count,
    layers: list(
      v.object({
        ...layerFields,
        ...shareFields,
        createdBy: v.string(),
        addedFiles: count,
        replacedFiles: count,
        removedFiles: count,
        hidesBytes: count,
        largest: list(v.object({ path: v.string(), bytes: count, isHidden: v.boolean() })),
      }),
    ),
  }),
)
/** An image as one disk. */
export const DiskSchema = matching<ImageDisk>()(
  v.object({
    digest,
    chainId,
    sizeBytes: count,
    parts: list(v.object({ diffId: orUndefined(diffId), path, sizeBytes: count, position: count })),
    mount: v.object({ type: v.literal('erofs'), source: path, options: list(v.string()) }),
  }),
)
const ComparedSchema = v.object({ kind: v.picklist(['image', 'container']), name: v.string(), digest })
/** The differences of two trees. */
export const TreeDiffSchema = matching<TreeDiff>()(
  v.object({
    from: ComparedSchema,
    to: ComparedSchema,
    changes: list(
      v.object({
        kind: v.picklist(['added', 'removed', 'changed']),
        path: v.string(),
        type: v.picklist(fileTypes),
        differences: list(
          v.picklist(['type', 'content', 'target', 'device', 'mode', 'owner', 'xattrs', 'time']),
        ),
        beforeBytes: count,
        afterBytes: count,
      }),
    ),
    notCompared: list(v.string()),
    leftOut: count,
    added: count,
    removed: count,
    changed: count,
  }),
)
