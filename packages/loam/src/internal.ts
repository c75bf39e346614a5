/**
 * Shared by the programs of this project in addition to the library: the daemon imports it as `loamfs/internal`.
 * Outside of semantic versioning: any release may change or remove any of it.
 */
import type { Activity, Attributes, Tracer } from './activity/index.ts'
import type { Loam, LoamOptions } from './app/index.ts'
import type { runCommandLine } from './cli/index.ts'
import type { ImageReference } from './image/index.ts'
import type { CredentialSource, PodTokens } from './registry/index.ts'
import type { FolderUsage } from './transform/index.ts'
import type { PoolLoad, UnknownLayer } from './layers/index.ts'
import type { LazyStatus } from './lazy/index.ts'
import type { SnapshotKind } from './metadata/index.ts'
import type { AppliedLayer, SnapshotMount, Snapshotter } from './snapshotter/index.ts'

export type { PodTokens } from './registry/index.ts'
export {
  type Conversation,
  CONVERSATIONS,
  type Conversations,
  type Download,
  DOWNLOADS,
  type Downloads,
  type EventOf,
  type Operation,
  type OperationName,
  OPERATIONS,
  type Operations,
  OWN_FILES,
  RESULT_TRAILER,
  type ReplyOf,
  type RequestOf,
  type ResultOf,
  SCHEMAS,
  type Subscription,
  SUBSCRIPTIONS,
  type Upload,
  UPLOADS,
  type Uploads,
} from './api/index.ts'
export { type LineLimits, readLines } from './streams/index.ts'
export {
  currentRequest,
  readTraceContext,
  type RequestContext,
  requestIdOf,
  type TraceContext,
  type Tracer,
  withRequest,
} from './activity/index.ts'
export { describeSettings } from './config/index.ts'
export { cancelable, isErrno, redact, throwIfAborted, toLoamError } from './errors/index.ts'
export {
  createDirectories,
  createDirectoryBeneath,
  createPipe,
  endWithoutHandlers,
  existsBeneath,
  findListener,
  type FileRights,
  type OwnFolder,
  hostPlatform,
  isRoot,
  listenOnUnixSocket,
  MAX_TIMER_MS,
  TimeLimit,
  ownExecutable,
  peerGroups,
  peerUser,
  protectMemory,
  removeDirectoryBeneath,
  type RootedPath,
  sendDatagram,
  unlinkIfThere,
  unmountAllLater,
  writeStandardError,
  writeStandardOutput,
  writeWhenPossible,
  withFileRights,
} from './linux/index.ts'
export { LEFT_OPERATION, leftByError, tellLeft } from './images/index.ts'
export { fitsOperation } from './activity/index.ts'
export { DENY_OPERATION, WAIT_BOUNDS } from './lazy/index.ts'
export { writablePaths } from './backends/index.ts'
export { archiveAddress, isLayerType, MEDIA_TYPES, parseDigest, splitTransport } from './image/index.ts'
export { type Host, type HostOutput, OwnProcessNeeded } from './cli/host.ts'
export { containerdConfig, dockerConfig, IMAGE_SERVICE_SOCKET, SNAPSHOTTER_SOCKET } from './nodes/index.ts'
export { capabilitiesOf } from './runtime/index.ts'

/** Loads the command line: the daemon needs it from the first command on that it runs for a client. */
export async function loadCommandLine(): Promise<{ readonly runCommandLine: typeof runCommandLine }> {
  return import('./cli/index.ts')
}

/** Makes spans of the operations on a store, and of their parts, from now on. */
export function traceBy(activity: Activity, tracer: Tracer): void {
  activity.traceBy(tracer)
}

/** A span that is not an operation on the store. */
export interface TracedCall {
  readonly name: string
  readonly attributes: Attributes
}

/** Does something as a span of a trace, if the activity is traced. */
export async function traceCall<Result>(
  activity: Activity,
  { name, attributes }: TracedCall,
  act: () => Promise<Result>,
): Promise<Result> {
  return activity.trace(name, attributes, act)
}

/** Makes the lazy indexes of images that a store pulls while nobody waits for them; closing the store ends that. */
export function indexInBackground(loam: Loam): void {
  loam.indexInBackground()
}

/** Returns what the threads of an open store have to do now, by pool. */
export function threadLoadOf(loam: Loam): Readonly<Record<string, PoolLoad>> {
  return loam.threadLoad()
}

/** Returns what the process that fills the partial layers of an open store does; undefined if none runs. @throws LAZY_UNAVAILABLE */
export async function lazyStatusOf(loam: Loam): Promise<LazyStatus | undefined> {
  return loam.lazyStatus()
}

/** Counts the images of an open store; their documents are not read. */
export function imageCountOf(loam: Loam): number {
  return loam.imageCount()
}

/** Lists the IDs of the containers of an open store; their root filesystems are not looked at. */
export function containerIdsOf(loam: Loam): readonly string[] {
  return loam.containerIds()
}

/** Counts the snapshots of an open store by kind. */
export function snapshotCountsOf(loam: Loam): Readonly<Record<SnapshotKind, number>> {
  return loam.snapshotCounts()
}

/** Measures the disk usage of a volume. That of a large one may be some seconds old, and takes a thread of its own. @throws CANCELED */
export async function measureVolume(loam: Loam, path: string, signal: AbortSignal): Promise<FolderUsage> {
  return loam.measureVolume(path, signal)
}

/**
 * Returns the credentials that the settings and the files of the user of an open store give. `tokens`: of the pod that the image is for, for credential
 * providers that take them. @throws CREDENTIALS_INVALID
 */
export function configuredCredentials(loam: Loam, tokens?: PodTokens): CredentialSource {
  return loam.configuredCredentials(tokens)
}

/** Returns whether the tokens of a pod may decide which credentials there are for an image: a credential provider for it takes some. */
export async function takesPodTokens(loam: Loam, image: ImageReference): Promise<boolean> {
  return loam.takesPodTokens(image)
}

/** A lock between all processes that have opened a store. */
export interface StoreLock {
  readonly kind: string
  readonly name: string
  /** Ends the wait for it. */
  readonly signal: AbortSignal
}

/** Waits for a lock of an open store. Dispose of it. @throws CANCELED */
export async function lockInStore(loam: Loam, { kind, name, signal }: StoreLock): Promise<Disposable> {
  return loam.lock(kind, name, signal)
}

/** Returns an open store with the settings, the environment and the directory of a caller. Dispose of it. @throws as `openLoam` */
export async function loamForCaller(loam: Loam, options: LoamOptions): Promise<Loam> {
  return loam.forCaller(options)
}

/** A blob of a layer for the snapshot that mounts write to. */
export interface LayerToApply {
  readonly mounts: readonly SnapshotMount[]
  readonly layer: UnknownLayer
  readonly signal?: AbortSignal | undefined
}

/** Applies the blob of a layer to a snapshot without unpacking it; undefined if the client has to. @throws as `Snapshotter.apply` */
export async function applyLayer(
  snapshotter: Snapshotter,
  { mounts, layer, signal }: LayerToApply,
): Promise<AppliedLayer | undefined> {
  return snapshotter.apply(mounts, layer, signal)
}

/** Two sets of mounts: of the parent of a snapshot, and of the snapshot. */
export interface ComparedMounts {
  readonly left: readonly SnapshotMount[]
  readonly right: readonly SnapshotMount[]
}

/** Returns the key of the snapshot whose changes are what differs between mounts; undefined if they are not those of a snapshot and its parent. */
export function findChange(snapshotter: Snapshotter, { left, right }: ComparedMounts): string | undefined {
  return snapshotter.findChange(left, right)
}
