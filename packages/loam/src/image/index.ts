export {
  type ChainId,
  chainIds,
  type DiffId,
  type Digest,
  type DigestAlgorithm,
  digestOf,
  finishDigest,
  isDigest,
  parseDiffId,
  parseDigest,
  splitDigest,
  startDigest,
} from './digest.ts'
export {
  check,
  checkLayerCount,
  type Descriptor,
  DOCUMENT_LIMITS,
  type ImageConfig,
  type ImageIndex,
  type ImageManifest,
  parseImageConfig,
  parseManifestDocument,
  type RunConfig,
} from './documents.ts'
export { parseStrictJson } from './json.ts'
export { MANIFEST_ACCEPT, MEDIA_TYPES } from './media-types.ts'
export {
  formatPlatform,
  normalizePlatform,
  parsePlatform,
  type Platform,
  platformDistance,
} from './platform.ts'
export {
  formatReference,
  type ImageReference,
  manifestSelector,
  parseReference,
} from './reference.ts'
