import { existsSync, statSync } from 'node:fs'
import type { StackMounts } from '../backends/index.ts'
import { type Failure, toLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import type { IdMapping } from '../linux/index.ts'
import type { MetadataStore, SnapshotRecord } from '../metadata/index.ts'
import { isOwnedByRootOf, rootOf } from './file-owners.ts'
import { idMappingOf, type Labels } from './labels.ts'
import type { RootOwner, SnapshotDirectories } from './snapshot-directories.ts'
import type { MountsReport, SnapshotMount } from './snapshot-info.ts'

export interface SnapshotMountsOptions {
  readonly metadata: MetadataStore
  readonly stacks: StackMounts
  readonly directories: SnapshotDirectories
  /** Options of every overlay mount, after its own. */
  readonly mountOptions: readonly string[]
}

/** The layers below a snapshot, mounted; undefined if there are none. */
interface Below {
  readonly lower: string | undefined
  readonly lease: Disposable | undefined
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

  /**
   * Mounts the layers below a snapshot, or the layer that it is, and keeps them mounted until the lease is released.
   */
  async lease(snapshot: SnapshotRecord | undefined, idMapping?: IdMapping): Promise<Below> {
    if (snapshot?.chainId === undefined) return { lower: undefined, lease: undefined }
    const stack = { chainId: snapshot.chainId, diffIds: this.layersBelow(snapshot.id), idMapping }
    const { path, lease } = await this.#options.stacks.lease(stack, undefined)
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
    const { id, labels } = snapshot
    const chain = metadata.snapshots.chain(id).slice(1)
    const idMapping = idMappingOf(labels)
    const { lower, lease } = await this.lease(snapshot, idMapping)
    using _lease = lease
    if (snapshot.kind === 'active' && !existsSync(directories.of(id))) {
      // It was empty when a power cut removed it: no caller had waited for its content.
      const owner = this.ownerOfRoot(labels, chain[0], lower)
      directories.place(directories.stage('active', owner), id)
    }
    const folders = chain.filter(({ diffId }) => diffId === undefined).map((below) => below.id)
    const isView = snapshot.kind === 'view'
    if (folders.length === 0 && lower === undefined)
      return [bind(directories.files(id), isView ? 'ro' : 'rw')]
    const { paths, options } = await this.#showFolders(folders, lower !== undefined, idMapping)
    const lowers = lower === undefined ? paths : [...paths, lower]
    const [only = '', other] = lowers
    if (isView && other === undefined) return [bind(only, 'ro')]
    return [
      {
        type: 'overlay',
        source: 'overlay',
        options: [...this.#overlayOptions(snapshot, lowers), ...options],
      },
    ]
  }

  /**
   * Returns the paths of unpacked snapshots for an overlay, and options for the client. A client that gets the option of a mapping maps the directory that
   * all lowers have in common, and no mount in it: so it gets one only where there is nothing but directories that are all to be mapped.
   */
  async #showFolders(
    ids: readonly number[],
    hasLayers: boolean,
    idMapping: IdMapping | undefined,
  ): Promise<{ readonly paths: string[]; readonly options: string[] }> {
    const { directories, mountOptions, stacks } = this.#options
    const options = [...mountOptions]
    const plain = ids.map((id) => directories.files(id))
    if (idMapping === undefined) return { paths: plain, options }
    if (!hasLayers && !plain.some((path) => isOwnedByRootOf(path, idMapping))) {
      const [uids = '', gids = ''] = idMapping.key.split('/')
      return { paths: plain, options: [`uidmap=${uids}`, `gidmap=${gids}`, ...options] }
    }
    const paths: string[] = []
    for (const id of ids) {
      const path = directories.files(id)
      paths.push(isOwnedByRootOf(path, idMapping) ? path : await stacks.showFolder(id, path, idMapping))
    }
    return { paths, options }
  }

  /** Returns the owner of the upper directory of a new snapshot: the root of the mount has its attributes. */
  ownerOfRoot(
    labels: Labels,
    parent: SnapshotRecord | undefined,
    lower: string | undefined,
  ): RootOwner | undefined {
    const idMapping = idMappingOf(labels)
    if (idMapping !== undefined) return rootOf(idMapping)
    const isLayer = parent === undefined || parent.diffId !== undefined
    const below = isLayer ? lower : this.#options.directories.files(parent.id)
    return below === undefined ? undefined : statSync(below)
  }

  #overlayOptions({ id, kind }: SnapshotRecord, lowers: readonly string[]): string[] {
    const { directories } = this.#options
    return [
      ...(this.#turnsIndexOff ? ['index=off'] : []),
      ...(kind === 'active' ? [`workdir=${directories.work(id)}`, `upperdir=${directories.files(id)}`] : []),
      `lowerdir=${lowers.join(':')}`,
    ]
  }

  /** Unmounts the layers below a snapshot that was removed or committed, and the folders that are shown with its mapping, unless others use them. */
  release({ kind, chainId, parentId, labels }: SnapshotRecord): void {
    const { metadata, stacks } = this.#options
    const idMapping = kind === 'committed' ? undefined : idMappingOf(labels)
    if (idMapping !== undefined && parentId !== undefined) {
      const folders = metadata.snapshots.chain(parentId).filter(({ diffId }) => diffId === undefined)
      for (const { id } of folders) stacks.releaseFolder(id, idMapping)
    }
    if (chainId !== undefined) stacks.release(chainId, idMapping)
  }

  /** Remounts the layers below active snapshots and views whose mounts are gone. Each stack succeeds or fails separately. */
  async restore(signal?: AbortSignal): Promise<MountsReport> {
    const { metadata, stacks } = this.#options
    const restored: string[] = []
    const failed: Failure[] = []
    const used = [...metadata.snapshots.list()].filter(({ kind }) => kind !== 'committed')
    const stacksOf = used.flatMap(({ id, chainId, labels }) =>
      chainId === undefined ? [] : [{ id, chainId, idMapping: idMappingOf(labels) }],
    )
    const distinct = new Map(stacksOf.map((each) => [`${each.chainId} ${each.idMapping?.key ?? ''}`, each]))
    for (const { id, chainId, idMapping } of distinct.values()) {
      try {
        const path = await stacks.restore({ chainId, diffIds: this.layersBelow(id), idMapping }, signal)
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
