import { writablePaths } from '../backends/index.ts'
import { IngestArea, type StorePaths } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import {
  changeRunConfig,
  type DiffId,
  formatConfig,
  MEDIA_TYPES,
  parseDiffId,
  parseStrictJson,
} from '../image/index.ts'
import { hostPlatform, type IdMapping, readBootId } from '../linux/index.ts'
import {
  askedBy,
  type FolderPacker,
  formatImageName,
  folderLayer,
  type FolderLayerOptions,
  convertedSource,
  type ConvertedLayer,
  streamFile,
} from '../sources/index.ts'
import { checkPin, snapshotKey, type SnapshotRecord } from '../metadata/index.ts'
import { fileLocation, type ImageLocation } from '../policy/index.ts'
import { rootfsIdMapping } from '../provisioner/index.ts'
import { ownersOfFiles, requireIntact, snapshotFiles } from '../snapshotter/index.ts'
import type { PullEvent, StoredImage } from '../stores/index.ts'
import { configOfRootfs } from './image-config.ts'
import type { ImageServices } from './services.ts'
import type { CommitOptions, NamingOptions } from './requests.ts'

type CommitServices = Pick<
  ImageServices,
  'paths' | 'metadata' | 'blobs' | 'layers' | 'stores' | 'sources' | 'provisioner'
>

export interface CommitImageOptions extends NamingOptions {
  /** Config that is the base of the new config, JSON; undefined: the config of the container's image, or none. */
  readonly config?: Buffer | undefined
  /** What is changed in the config. */
  readonly changed?: ConfigChanges | undefined
  readonly createdAtMs?: number | undefined
  readonly onEvent?: ((event: PullEvent) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/** Changes to a config, and words about them. */
export type ConfigChanges = Pick<CommitOptions, 'changes' | 'message' | 'author'>

/** The source of a new image: a snapshot by its key or name, or a container by its ID. */
export type CommitSubject =
  | { readonly kind: 'snapshot'; readonly key: string }
  | { readonly kind: 'container'; readonly key: string }

/** A folder with changes, or with all files of a root filesystem that does not know them. */
interface ChangedFolder {
  readonly path: string
  readonly as: 'overlay' | 'rootfs'
  /** The user namespace of the container whose files they are. Undefined: that of this process. */
  readonly idMapping: IdMapping | undefined
}

/** The content of a new image: layers of the store, and folders with changes to them. */
interface Changes {
  readonly parts: readonly (DiffId | ChangedFolder)[]
  readonly config: Buffer | undefined
  /** The snapshots that the folders belong to; none for a container, whose lock is held. */
  readonly snapshots: readonly SnapshotRecord[]
  /** The locations that the container's image came from. */
  readonly from: readonly ImageLocation[]
}

/**
 * Creates an image from a snapshot with all its parents, or from a container's root filesystem with its changes, under a name in the store. Layers of
 * the store are reused unchanged. Destroying the container waits until its changes are read.
 * @throws SNAPSHOT_NOT_FOUND, ROOTFS_UNMOUNTED for a container that is not complete, USAGE, LAYER_UNSUPPORTED for what no layer can hold
 */
export async function commitImage(
  services: CommitServices,
  subject: CommitSubject,
  name: string,
  { config, changed = {}, createdAtMs, onEvent, signal, replace }: CommitImageOptions,
): Promise<StoredImage> {
  const { key } = subject
  const known = services.sources.parse(name).name
  // The digest of an image is not known before the image is created.
  checkPin(formatImageName(known), [])
  // Before anything is read: a change that cannot be made fails at once.
  changeRunConfig({}, changed.changes ?? [])
  using _lease = await leaseContainer(services, subject, signal)
  const changes = findChanges(services, subject)
  await using area = new IngestArea(services.paths)
  const isWhole = changes.parts.some((part) => typeof part !== 'string' && part.as === 'rootfs')
  if (isWhole) onEvent?.({ kind: 'note', text: WHOLE_NOTE })
  const packer = services.sources.packer(() => area.newPath('layer'), onEvent)
  const source = convertedSource({
    name: formatImageName(known),
    asked: askedBy(known),
    from: [fileLocation('commit', key), ...changes.from],
    givenBy: 'user',
    mayReplace: replace,
    isRemote: false,
    convert: async (given) => {
      const layers: ConvertedLayer[] = []
      const latestSeconds = createdAtMs === undefined ? undefined : Math.floor(createdAtMs / 1000)
      await readSnapshot(services, changes.snapshots, async () => {
        for (const part of changes.parts)
          layers.push(await toLayer(services, part, packer, { latestSeconds, signal: given }))
      })
      const created = new Date(createdAtMs ?? Date.now()).toISOString()
      return {
        config: createConfig(config ?? changes.config, layers, { key, created, isWhole, ...changed }),
        layers,
        annotations: {},
      }
    },
  })
  return await services.stores.docker.get(source, { cached: false, sync: true, signal, onEvent })
}

async function leaseContainer(
  { provisioner }: Pick<ImageServices, 'provisioner'>,
  { kind, key }: CommitSubject,
  signal: AbortSignal | undefined,
): Promise<Disposable | undefined> {
  const container = kind === 'snapshot' ? undefined : provisioner.find(key)
  return container === undefined ? undefined : provisioner.lease(container.id, signal)
}

/**
 * Reads files of snapshots. A row is removed or changed before its files are removed: so all of them were there if it is still the same.
 * @throws SNAPSHOT_NOT_FOUND when one was removed, adopted or committed meanwhile
 */
export async function readSnapshot(
  { metadata }: Pick<ImageServices, 'metadata'>,
  snapshots: readonly SnapshotRecord[],
  read: () => Promise<void>,
): Promise<void> {
  const [result] = await Promise.allSettled([read()])
  for (const snapshot of snapshots) {
    const current = metadata.snapshots.get(snapshot.id)
    const attempted = `read snapshot ${JSON.stringify(snapshot.key)}`
    if (current === undefined)
      throw new LoamError('SNAPSHOT_NOT_FOUND', `${attempted}: it was removed while it was read`)
    if (layerOf(current) !== layerOf(snapshot) || current.maxBytes !== snapshot.maxBytes)
      throw new LoamError('SNAPSHOT_NOT_FOUND', `${attempted}: its files were moved while it was read`, {
        hint: 'Repeat the command: the snapshot was committed, or has become a layer.',
      })
  }
  if (result.status === 'rejected') throw result.reason
}

function layerOf({ diffId, appliedDiffId }: SnapshotRecord): DiffId | undefined {
  return diffId ?? appliedDiffId
}

function findChanges(services: CommitServices, { kind, key }: CommitSubject): Changes {
  return kind === 'snapshot' ? changesOfSnapshot(services, key) : changesOfContainer(services, key)
}

function changesOfSnapshot({ metadata, paths }: CommitServices, key: string): Changes {
  const snapshot = metadata.snapshots.find(snapshotKey(key))
  if (snapshot === undefined) {
    throw new LoamError('SNAPSHOT_NOT_FOUND', `commit ${JSON.stringify(key)}: no such snapshot`, {
      hint: '`loam snapshot list` lists snapshots, and `loam ps` containers.',
    })
  }
  const chain = metadata.snapshots.chain(snapshot.id).filter(({ kind }) => kind !== 'view')
  for (const each of chain) requireIntact(paths, each, { attempted: 'commit', bootId: readBootId() })
  const parts = chain.map((each) => layerOf(each) ?? changedFolder(paths, each, snapshot))
  return { parts: parts.toReversed(), config: undefined, snapshots: chain, from: [] }
}

function changedFolder(paths: StorePaths, snapshot: SnapshotRecord, reader: SnapshotRecord): ChangedFolder {
  const path = snapshotFiles(paths, snapshot)
  return { path, as: 'overlay', idMapping: ownersOfFiles(path, snapshot, reader) }
}

const WHOLE_NOTE =
  'the container is a copy, which does not know its changes: the image has one layer with all files. A container of the backend overlay or erofs keeps the layers of its image'

/** Backends of containers that can be committed: what a root filesystem of `bind` shows is a layer itself. */
const COMMITTED: readonly string[] = ['erofs', 'overlay', 'copy']

/** Returns the layers of a container, and the folder with its changes. @throws CONTAINER_NOT_FOUND, USAGE, ROOTFS_UNMOUNTED */
export function changesOfContainer(
  services: Pick<CommitServices, 'metadata' | 'provisioner' | 'blobs' | 'sources'>,
  key: string,
): Changes {
  const { metadata, provisioner, blobs } = services
  const container = provisioner.find(key)
  const [rootfs, other] = container?.rootfses.filter(({ volumeTarget }) => volumeTarget === undefined) ?? []
  if (rootfs === undefined) {
    throw new LoamError('CONTAINER_NOT_FOUND', `commit ${JSON.stringify(key)}: no such container`, {
      hint: '`loam ps` lists the containers.',
    })
  }
  if (other !== undefined || !COMMITTED.includes(rootfs.backend)) {
    throw new LoamError('USAGE', `commit ${key}: it has no separate directory of changes`, {
      hint: '`loam export --format oci` writes it as one layer.',
    })
  }
  // A folder with a limit may be a mount.
  if (rootfs.sizeBytes === undefined) provisioner.requireReady(rootfs, `commit ${key}`)
  else provisioner.requireStanding(rootfs, `commit ${key}`)
  const config = configOfRootfs({ metadata, blobs }, rootfs)
  const from = services.sources.locationsOf(rootfs.imageDigest)
  const idMapping = rootfsIdMapping(rootfs)
  // A copy does not know what was changed: all of it becomes one layer.
  if (rootfs.backend === 'copy')
    return { parts: [{ path: rootfs.rootfsPath, as: 'rootfs', idMapping }], config, snapshots: [], from }
  const folder: ChangedFolder = { path: writablePaths(rootfs).upper, as: 'overlay', idMapping }
  return { parts: [...rootfs.layers, folder], config, snapshots: [], from }
}

async function toLayer(
  { layers }: Pick<ImageServices, 'layers'>,
  part: Changes['parts'][number],
  packer: FolderPacker,
  { latestSeconds, signal }: Pick<FolderLayerOptions, 'latestSeconds' | 'signal'>,
): Promise<ConvertedLayer> {
  if (typeof part !== 'string') {
    const { path, as, idMapping } = part
    return folderLayer(path, packer, { as, idMapping, latestSeconds, signal })
  }
  await layers.complete([part], signal)
  const known = layers.get(part)
  const { diffId, tarBytes } = known
  const descriptor = { mediaType: MEDIA_TYPES.ociLayer, digest: diffId, sizeBytes: tarBytes }
  return {
    descriptor,
    open: (range) => streamFile(layers.tarPath(diffId), range.signal, { start: range.offset }),
  }
}

/** What a config says of its commit. */
interface CommittedAs {
  readonly key: string
  /** When, as in RFC 3339. */
  readonly created: string
  /** Whether one layer has all files. */
  readonly isWhole: boolean
}

function createConfig(
  base: Buffer | undefined,
  layers: readonly ConvertedLayer[],
  { key, created, isWhole, changes = [], message, author }: ConfigChanges & CommittedAs,
): Buffer {
  const given = base === undefined ? {} : parseStrictJson(base, 'config')
  const config = typeof given === 'object' && given !== null ? given : {}
  const steps = 'history' in config && Array.isArray(config.history) ? (config.history as object[]) : []
  // The steps of layers that became one are not its history.
  const history = isWhole ? [] : steps
  const { os, architecture } = hostPlatform()
  // A config has both (OCI image-spec config.md); programs that read it treat null and an empty text as absent.
  const platform = {
    os: textOf(config, 'os') ?? os,
    architecture: textOf(config, 'architecture') ?? architecture,
  }
  const diffIds = layers.map(({ descriptor }) => parseDiffId(descriptor.digest))
  const own = { created, created_by: `loam commit ${key}` }
  const words = {
    ...(author === undefined ? {} : { author }),
    ...(message === undefined ? {} : { comment: message }),
  }
  const changed = changes.length === 0 ? {} : { config: changeRunConfig(runConfigOf(config), changes) }
  const fields = { ...config, ...platform, created, ...(author === undefined ? {} : { author }), ...changed }
  return formatConfig(fields, diffIds, [...alignHistory(history, layers.length - 1), { ...own, ...words }])
}

/**
 * Steps belong to layers in their order: one that is missing would give the next step to a layer below its own, and one too many would take the layer
 * of the next step. Those that have none are said to have none.
 */
function alignHistory(history: readonly object[], layers: number): readonly object[] {
  let left = layers
  const aligned = history.map((step) => {
    if (Reflect.get(step, 'empty_layer') === true) return step
    left -= 1
    return left >= 0 ? step : { ...step, empty_layer: true }
  })
  const missing = Array.from({ length: Math.max(0, left) }, () => ({ comment: 'not recorded' }))
  return [...aligned, ...missing]
}

/** The object is JSON of an image: all fields that are not changed stay. */
function runConfigOf(config: object): Readonly<Record<string, unknown>> {
  const run: unknown = Reflect.get(config, 'config')
  return typeof run === 'object' && run !== null ? { ...run } : {}
}

function textOf(config: object, key: string): string | undefined {
  const value: unknown = Reflect.get(config, key)
  return typeof value === 'string' && value !== '' ? value : undefined
}
