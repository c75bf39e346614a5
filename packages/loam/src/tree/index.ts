export { replaceAclIds } from './posix-acl.ts'
export {
  type Entry,
  type FileData,
  FileTree,
  type Inode,
  type InodeAttributes,
  NONE,
  ROOT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_LOWER_LINK,
} from './file-tree.ts'
export { describeLeftOutXattrs, LayerTreeBuilder, type LeftOutXattrs } from './layer-tree.ts'
export {
  DEFAULT_IMAGE_LIMITS,
  DEFAULT_LAYER_LIMITS,
  type ImageLimits,
  type LayerLimits,
  MAX_LAYERS,
  MAX_PATH_BYTES,
  overLimit,
} from './limits.ts'
export { applyLayer } from './merge.ts'
export { SELF, SortedTree, UP } from './sorted-tree.ts'
export { type FolderContent, LayerFolder } from './layer-folder.ts'
export { OverlayView } from './overlay-view.ts'
export { planFixup } from './fixup.ts'
export { StackedLayer } from './stacked-layer.ts'
export { type LayerSummary, type RootAttributes, summarizeLayer, TREE_GENERATION } from './summary.ts'
export { formatNameText, parsePathText } from './path-text.ts'
export { splitPath } from './paths.ts'
export { checkXattrs } from './xattr-rules.ts'
export type { Xattr } from './xattr-sets.ts'
export { isOwnerRecord, type Owner, recordedOwner, recordOwner } from './recorded-owner.ts'
