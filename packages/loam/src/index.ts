/**
 * Loam: root filesystems out of container images.
 *
 * ```ts
 * await using loam = await openLoam({ flags: { root: '/var/lib/loam' } })
 * const { rootfsPath } = await loam.provision('debian:12', { id: 'web' })
 * await loam.destroy('web')
 * ```
 */
export type {
  CollectionReport,
  CommitOptions,
  DiffOptions,
  PruneImagesOptions,
  PruneReport,
  BlobRoute,
  DigestChange,
  FetchOptions,
  ImageOptions,
  ImageInspection,
  Images,
  ListedImage,
  MesosImportOptions,
  MesosImportReport,
  PulledImage,
  PushedImage,
  PushEvent,
  NamingOptions,
  PushImageOptions,
  PushOptions,
  RemoteLayersOptions,
} from './images/index.ts'
export {
  examine,
  type HostReport,
  Loam,
  type LoamOptions,
  openLoam,
  type OpenSnapshotterOptions,
  type StoreLocation,
  type SnapshotImportOptions,
  type Snapshots,
  type StoreCare,
} from './app/index.ts'
export {
  type Containers,
  type DestroyOptions,
  type HostMount,
  type ImageVolume,
  type MesosContainer,
  type MesosContainerInfo,
  type MesosVolume,
  parseMesosContainer,
  type ProvisionedContainer,
  type ProvisionedImage,
  type ProvisionedVolume,
  type ProvisionImageOptions,
  type RecoverOptions,
  type RunImageOptions,
  type VolumeOptions,
} from './containers/index.ts'
export {
  type Configuration,
  type ConfigurationInput,
  type ImageGcConfig,
  readConfiguration,
} from './config/index.ts'
export type { ImageRequest, NamedType } from './sources/index.ts'
export type { Probe } from './backends/index.ts'
export {
  type ErrorCode,
  type ErrorKind,
  ERRORS,
  isLoamError,
  LoamError,
} from './errors/index.ts'
export { EXPORT_FORMATS, type ExportFormat, type ExportOptions } from './exports/index.ts'
export {
  type Digest,
  formatPlatform,
  formatReference,
  type ImageReference,
  isDigest,
  parsePlatform,
  parseReference,
  type Platform,
} from './image/index.ts'
export type { LayerProgress } from './layers/index.ts'
export type {
  ContainerUsage,
  FsckOptions,
  FsckProblem,
  FsckReport,
  ImageUsage,
  LayerUsage,
  StoreUsage,
} from './maintenance/index.ts'
export type { ImageRecord, ImageType, RootfsRecord, RootfsState } from './metadata/index.ts'
export type { ContainerInfo, ProvisionedRootfs, RecoveryReport } from './provisioner/index.ts'
export {
  type CredentialSource,
  credentialsFromConfig,
  credentialsFromFiles,
  credentialsOfUser,
  firstCredentials,
} from './registry/index.ts'
export { type CommandInfo, mergeCommandInfo } from './runtime/index.ts'
export type { PruneResult, PullEvent } from './stores/index.ts'
export type {
  SnapshotInfo,
  SnapshotMount,
  Snapshotter,
  SnapshotUsage,
  SnapshotImportReport,
} from './snapshotter/index.ts'
