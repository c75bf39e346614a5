export { changeRunConfig } from './config-changes.ts'
export {
  type AppcDependency,
  type AppcImageId,
  type AppcLabels,
  type AppcManifest,
  appcPlatform,
  appcPlatformLabels,
  isAppcImageId,
  parseAppcManifest,
  readAppcManifest,
} from './appc-manifest.ts'
export {
  type AppcName,
  compareAppcVersions,
  formatAppcName,
  isAppcLatest,
  createAppcName,
  parseAppcName,
  suitsAppcName,
} from './appc-name.ts'
export { describeEntries, imageEntries, isFor, rankEntries } from './choose.ts'
export {
  type ChainId,
  chainIds,
  type DiffId,
  type Digest,
  type DigestAlgorithm,
  digestOf,
  finishDigest,
  isDigest,
  parseChainId,
  parseDiffId,
  parseDigest,
  splitDigest,
  startDigest,
} from './digest.ts'
export {
  check,
  checkLayerCount,
  type Descriptor,
  DEFAULT_DOCUMENT_LIMITS,
  type DocumentKind,
  type DocumentLimits,
  checkDocumentSize,
  type DocumentLimit,
  limitOf,
  type ImageConfig,
  type ImageIndex,
  type ImageManifest,
  inspectShape,
  isArtifact,
  listReferences,
  mayBeIndex,
  mediaTypeOf,
  parseImageConfig,
  parseManifestDocument,
  type RunConfig,
} from './documents.ts'
export {
  changeIndex,
  describeBytes,
  formatConfig,
  formatIndex,
  formatManifest,
  type IndexEntry,
  replaceLayers,
} from './format-documents.ts'
export {
  EMPTY_CONFIG,
  formatLazyArtifact,
  type LazyArtifact,
  type LazyArtifactLayer,
  lazyArtifactTag,
  parseLazyArtifact,
} from './lazy-artifact.ts'
export {
  formatLazyProfile,
  type LazyProfile,
  MAX_PROFILE_BYTES,
  parseLazyProfile,
  uniteSpans,
} from './lazy-profile.ts'
export { nameOfDigest, pinOf, shortenNames, withoutDigest } from './name-pin.ts'
export { type StoredReference, storedReference } from './stored-reference.ts'
export {
  archiveAddress,
  FILE_TRANSPORTS,
  type FileTransport,
  locationTransport,
  splitTransport,
} from './transports.ts'
export { goStruct, goText, goTextMap, goTexts } from './go-json.ts'
export { parseStrictJson } from './json.ts'
export {
  compressionOf,
  familyOf,
  isBundleType,
  isConfigType,
  isForeign,
  isForeignLayerType,
  isLayerType,
  isIndexType,
  isVagueType,
  plainType,
  layerType,
  MANIFEST_ACCEPT,
  MEDIA_TYPES,
  SCHEMA_1_ACCEPT,
} from './media-types.ts'
export {
  type AppcImageRequest,
  type DockerImageRequest,
  IMAGE_FORM,
  type ImageRequest,
  ImageRequestSchema,
  NAMED_TYPES,
  type NamedType,
  type OciImageRequest,
  type RequestLabels,
  type RequestSecret,
} from './image-request.ts'
export {
  formatPlatform,
  normalizePlatform,
  parsePlatform,
  type Platform,
  platformDistance,
  runsOn,
} from './platform.ts'
export {
  formatReference,
  type ImageReference,
  isLikeHost,
  isDockerHub,
  isRegistryHost,
  isRepositoryPath,
  isTag,
  manifestSelector,
  parseReference,
} from './reference.ts'
export { cosignTag, referrersTag } from './referrer-tags.ts'
export { isSchema1, parseSchema1, schema1Payload } from './schema1.ts'
export { configOfV1, isV1Id, parseV1Json, type V1Json } from './v1-json.ts'
export {
  type OciDescriptor,
  type OciHistoryStep,
  type OciImageConfig,
  type OciManifest,
  type OciProcessConfig,
  parseOciImageConfig,
  parseOciManifest,
} from './oci-documents.ts'
