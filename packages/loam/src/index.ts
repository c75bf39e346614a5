/**
 * Loam: root filesystems out of container images. `openLoam` opens a store; `Loam` has four short programs.
 * `loamfs/testing` has image builders, a registry and conformance suites. `loamfs/internal` is for Loam's own daemon.
 */
export type {
  CollectionReport,
  CommitOptions,
  ContentsOptions,
  DiffOptions,
  PruneImagesOptions,
  PruneReport,
  BlobRoute,
  DigestChange,
  FetchOptions,
  ImageContents,
  ImageLayerContents,
  ImageOptions,
  LazyOptions,
  ImageInspection,
  IndexedImage,
  IndexedLayer,
  IndexImageOptions,
  LazyInspection,
  Images,
  LeftLayer,
  ListedImage,
  MesosImportOptions,
  MesosImportReport,
  PulledImage,
  UntaggedName,
  PushedImage,
  PushEvent,
  NamingOptions,
  PullImageOptions,
  PushImageOptions,
  PushOptions,
  RemoteImage,
  RemoteImageOptions,
  RemoteLayersOptions,
  RemoteManifest,
  RepositoryTags,
} from './images/index.ts'
export type { ClientExamination, NodeFinding, NodeReport } from './nodes/index.ts'
export {
  examine,
  type Examination,
  type HostReport,
  Loam,
  type LoamOptions,
  openLoam,
  type OpenSnapshotterOptions,
  type StoreLocation,
  type SnapshotAdoption,
  type SnapshotImportOptions,
  type Snapshots,
  type StoreCare,
} from './app/index.ts'
export {
  type ContainerProcess,
  type ContainerProcesses,
  type Containers,
  type DestroyOptions,
  type ExecOptions,
  type LogOptions,
  type StopOptions,
  type HostMount,
  type ImageVolume,
  type MesosContainer,
  type MesosContainerInfo,
  type MesosVolume,
  type MountedVolume,
  parseMesosContainer,
  type ProvisionedContainer,
  type ProvisionedImage,
  type ProvisionedVolume,
  type ProgramStart,
  type ProvisionImageOptions,
  type UserNamespace,
  type RecoverOptions,
  type RunImageOptions,
  type RunStarter,
  type StartedContainer,
  type UnexportOptions,
  type VolumeOptions,
} from './containers/index.ts'
export {
  type Configuration,
  type ConfigurationInput,
  type ImageGcConfig,
  type SettingName,
  type Settings,
  type SettingsInput,
  type StoreWatermarks,
  readConfiguration,
} from './config/index.ts'
export type {
  AppcImageRequest,
  DockerImageRequest,
  ImageAddress,
  ImageRequest,
  NamedType,
  OciImageRequest,
  Referrer,
  ReferrerKind,
  RequestLabels,
  RequestSecret,
} from './sources/index.ts'
export {
  Activity,
  type ActivityEvent,
  type ActivityObserver,
  type Attributes,
  type EndEvent,
  type OperationError,
  type ProgressEvent,
  type Span,
  type SpanPart,
  type StartEvent,
} from './activity/index.ts'
export type { LimitMethod, Probe, SizeLimitProbe } from './backends/index.ts'
export {
  type ErrorCode,
  type ErrorDetails,
  type ErrorKind,
  ERRORS,
  type Failure,
  isLoamError,
  LoamError,
  type LoamErrorOptions,
  type PlainError,
} from './errors/index.ts'
export {
  EXPORT_FORMATS,
  type ExportFormat,
  type ExportOptions,
  type UnexportedImages,
} from './exports/index.ts'
export {
  type ChainId,
  type Descriptor,
  type DiffId,
  type Digest,
  formatPlatform,
  formatReference,
  type StoredReference,
  type ImageReference,
  isDigest,
  parsePlatform,
  parseReference,
  type Platform,
  type RunConfig,
} from './image/index.ts'
export type { FileSystemInfo, Rootless } from './linux/index.ts'
export type { ContentsEntry, ContentsLevel, FileType, HiddenFile, LayerShare } from './transform/index.ts'
export type { LeftOutXattrs } from './tree/index.ts'
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
export type {
  ContainerId,
  DecisionRecord,
  ImageLayerRecord,
  ImageRecord,
  ImageType,
  SnapshotKind,
  RootfsRecord,
  RootfsState,
} from './metadata/index.ts'
export type { ContainerInfo, ProvisionedRootfs, RecoveryReport, RootfsInfo } from './provisioner/index.ts'
export {
  type Credential,
  type CredentialSource,
  type FindCredentialOptions,
  type HelperEnvironment,
  type RetryWait,
  credentialsFromConfig,
  credentialsFromFiles,
  credentialsOfUser,
  firstCredentials,
} from './registry/index.ts'
export { type CommandInfo, type CommandVariable, mergeCommandInfo } from './runtime/index.ts'
export type { PruneResult, PullEvent } from './stores/index.ts'
export type {
  Labels,
  SnapshotCommitOptions,
  SnapshotInfo,
  SnapshotMount,
  Snapshotter,
  SnapshotUsage,
  SnapshotImportReport,
} from './snapshotter/index.ts'
