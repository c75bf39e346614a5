import { existsSync, statSync } from 'node:fs'
import type { StackMounts } from '../backends/index.ts'
import { type Failure, toLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import type { FileLock } from '../linux/index.ts'
import type { MetadataStore, SnapshotRecord } from '../metadata/index.ts'
import { GID_MAPPING, type Labels, mappedRoot, UID_MAPPING } from './labels.ts'
import type { RootOwner, SnapshotDirectories } from './snapshot-directories.ts'
import type { MountsReport, SnapshotMount } from './snapshot-info.ts'

export interface SnapshotMountsOptions {
  readonly metadata: MetadataStore
  readonly stacks: StackMounts
  readonly directories: SnapshotDirectories
  /** Options of every overlay mount, after its own. */
  readonly mountOptions: readonly string[]
}

/** The mounts of snapshots: the layers below them as one EROFS mount, and the directories above it as an overlay that the client mounts. */
export class SnapshotMounts {
  readonly #options: SnapshotMountsOptions
  /** Overlays have an index of hard links if the kernel supports it, unless an option says otherwise. */
  readonly #turnsIndexOff: boolean

  constructor(options: SnapshotMountsOptions) {
    this.#options = options
    this.#turnsIndexOff =
      existsSync('/sys/module/overlay/parameters/index') &&
      !options.mountOptions.some((option) => option.startsWith('index='))
  }

  /** Mounts the layers below a snapshot, or the layer that it is, and keeps them mounted until the lease is released. */
  async lease(
    snapshot: SnapshotRecord | undefined,
  ): Promise<{ lower: string | undefined; lease: FileLock | undefined }> {
    if (snapshot?.chainId === undefined) return { lower: undefined, lease: undefined }
    const diffIds = this.layersBelow(snapshot.id)
    const { path, lease } = await this.#options.stacks.lease(snapshot.chainId, diffIds, undefined)
    return { lower: path, lease }
  }

  /** Lists the layers below a snapshot, or with the layer that it is, base first. */
  layersBelow(id: number): DiffId[] {
    const chain = this.#options.metadata.snapshots.chain(id)
    return chain.flatMap(({ diffId }) => diffId ?? []).toReversed()
  }

  /** Returns the mounts of an active snapshot or a view. */
  async of(snapshot: SnapshotRecord): Promise<SnapshotMount[]> {
    const { directories, metadata } = this.#options
    const { id } = snapshot
    const chain = metadata.snapshots.chain(id).slice(1)
    const { lower, lease } = await this.lease(snapshot)
    using _lease = lease
    if (snapshot.kind === 'active' && !existsSync(directories.of(id))) {
      // It was empty when a power cut removed it: no caller had waited for its content.
      const owner = this.ownerOfRoot(snapshot.labels, chain[0], lower)
      directories.place(directories.stage('active', owner), id)
    }
    const folders = chain
      .filter(({ diffId }) => diffId === undefined)
      .map((below) => directories.files(below.id))
    const lowers = lower === undefined ? folders : [...folders, lower]
    const isView = snapshot.kind === 'view'
    const [only, other] = lowers
    if (only === undefined) return [bind(directories.files(id), isView ? 'ro' : 'rw')]
    if (isView && other === undefined) return [bind(only, 'ro')]
    return [{ type: 'overlay', source: 'overlay', options: this.#overlayOptions(snapshot, lowers) }]
  }

  /** Returns the owner of the upper directory of a new snapshot: the root of the mount has its attributes. */
  ownerOfRoot(
    labels: Labels,
    parent: SnapshotRecord | undefined,
    lower: string | undefined,
  ): RootOwner | undefined {
    const uids = labels[UID_MAPPING]
    const gids = labels[GID_MAPPING]
    if (uids !== undefined && gids !== undefined) return { uid: mappedRoot(uids), gid: mappedRoot(gids) }
    const isLayer = parent === undefined || parent.diffId !== undefined
    const below = isLayer ? lower : this.#options.directories.files(parent.id)
    return below === undefined ? undefined : statSync(below)
  }

  #overlayOptions({ id, kind, labels }: SnapshotRecord, lowers: readonly string[]): string[] {
    const { directories, mountOptions } = this.#options
    const uids = labels[UID_MAPPING]
    const gids = labels[GID_MAPPING]
    return [
      ...(this.#turnsIndexOff ? ['index=off'] : []),
      ...(kind === 'active' ? [`workdir=${directories.work(id)}`, `upperdir=${directories.files(id)}`] : []),
      `lowerdir=${lowers.join(':')}`,
      ...(uids === undefined || gids === undefined ? [] : [`uidmap=${uids}`, `gidmap=${gids}`]),
      ...mountOptions,
    ]
  }

  /** Remounts the layers below active snapshots and views whose mounts are gone. Each stack succeeds or fails separately. */
  async restore(signal?: AbortSignal): Promise<MountsReport> {
    const { metadata, stacks } = this.#options
    const restored: string[] = []
    const failed: Failure[] = []
    const used = [...metadata.snapshots.list()].filter(({ kind }) => kind !== 'committed')
    for (const [chainId, id] of new Map(used.map((snapshot) => [snapshot.chainId, snapshot.id]))) {
      if (chainId === undefined) continue
      try {
        const path = await stacks.restore(chainId, this.layersBelow(id), signal)
        if (path !== undefined) restored.push(path)
      } catch (error) {
        failed.push({ what: `mount of ${chainId}`, reason: toLoamError(error, 'mount').message })
      }
    }
    return { restored, failed }
  }
}

function bind(source: string, mode: 'ro' | 'rw'): SnapshotMount {
  return { type: 'bind', source, options: [mode, 'rbind'] }
}
