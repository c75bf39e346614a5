import type * as Mesos from './mesos.ts'

export { type AppcImage, type AppcPart, appcIdOf, knownAppcImage, readAppcParts } from './appc/appc-image.ts'
export { type FolderLayerOptions, type FolderPacker, folderLayer } from './folder-layer.ts'
export { askedBy, formatImageName, type ImageName, type NameDefaults } from './image-name.ts'
export type {
  ArtifactBlob,
  AskedFor,
  ImageSource,
  LazyArtifacts,
  OpenBlobOptions,
  SourceDocument,
} from './image-source.ts'
export {
  type DockerEndpoint,
  type ImageAddress,
  openAllSources,
  openAnySource,
  openSource,
  type OpenSourceOptions,
} from './open-source.ts'
export { convertedSource, type ConvertedLayer } from './converted.ts'
export { copyFromPipe, copyStream } from './piped-file.ts'
export { renamedSource } from './renamed-source.ts'
export { registrySource } from './registry-source.ts'
export { streamFile } from './blob-file.ts'

/** Loads the sources that read a Mesos agent's stores: few users need them. */
export const loadMesosSources = async (): Promise<typeof Mesos> => import('./mesos.ts')
export { type ParsedRequest, parseImageRequest } from './image-request.ts'
export {
  type AppcImageRequest,
  type DockerImageRequest,
  type ImageRequest,
  ImageRequestSchema,
  NAMED_TYPES,
  type NamedType,
  type OciImageRequest,
  type RequestLabels,
  type RequestSecret,
} from '../image/index.ts'
export { kindOf, readArtifact, type Referrer, type ReferrerKind } from './referrers.ts'
export { putManifest } from './put-manifest.ts'
export type { ArchivedSource } from './archive-parts.ts'
export { isNameUnknown, noRepository } from './missing-image.ts'
