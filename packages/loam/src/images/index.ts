export type { PruneImagesOptions } from './garbage-collection.ts'
export type { DiskMount, ImageDisk } from './image-disk.ts'
export {
  fetchContent,
  type FetchContentOptions,
  type FetchedBlob,
  type FetchedContent,
} from './fetch-content.ts'
export type { HistoryLayer, HistoryStep, ImageHistory } from './history.ts'
export { configOfRootfs } from './image-config.ts'
export { appcManifestOf, describePulled } from './image-list.ts'
export type { CopiedImage, CopyImageOptions, ImageFileOptions } from './copy-image.ts'
export { Images } from './images.ts'
export { findOriginal } from './original-image.ts'
export { imageIn } from './layer-labels.ts'
export { ImageSession, ImageSessions } from './image-sessions.ts'
export type { ContentsOptions, ImageContents, ImageLayerContents } from './contents.ts'
export { IndexAfterPull } from './index-after-pull.ts'
export type { IndexImageOptions } from './index-by-name.ts'
export type { IndexedImage, IndexedLayer } from './index-image.ts'
export { LEFT_OPERATION, leftByError, type LeftLayer, tellLeft } from './left-layer.ts'
export type { ImageLayer, ImageLayers, LayersOptions } from './layer-details.ts'
export { LayerPrefetch } from './layer-prefetch.ts'
export type { LoadedImage } from './load-images.ts'
export { SAVE_FORMATS, type SavedImage, type SaveImagesOptions } from './save-images.ts'
export type { MesosImportOptions, MesosImportReport } from './mesos-import.ts'
export type { BlobRoute } from './push-blobs.ts'
export type { DigestChange, PushedImage, PushEvent, PushImageOptions, PushOptions } from './push-image.ts'
export { createRefetch } from './refetch.ts'
export type { RemoteImage, RemoteImageOptions, RemoteManifest, RepositoryTags } from './remote-image.ts'
export { createRemoteLayers, type RemoteLayersOptions } from './remote-layers.ts'
export {
  type CommitOptions,
  type FetchOptions,
  type ImageOptions,
  type LazyOptions,
  lazyModeOf,
  type NamingOptions,
  type PullImageOptions,
} from './requests.ts'
export type {
  CollectionReport,
  ImageInspection,
  LazyInspection,
  ListedImage,
  PruneReport,
  PulledImage,
  UntaggedName,
} from './results.ts'
export type { ImageServices, ReadContents, TreeReader } from './services.ts'
export { type DiffOptions, writeDiff } from './snapshot-diff.ts'
export { defaultRegistryOf, formatAnyName, SourceOpener, typeOf } from './source-opener.ts'
export { findUser, type LoggedIn, logIn, type LoginContext, logOut } from './registry-login.ts'
export type { ComparedTree, CompareOptions, TreeDiff } from './tree-diff.ts'
export { nameForOthers } from './stored-name.ts'
