import { existsSync, readFileSync, statSync } from 'node:fs'
import type { StackMounts } from '../backends/index.ts'
import type { StorePaths } from '../content/index.ts'
import { type Failure, toLoamError } from '../errors/index.ts'
import type { ChainId, DiffId } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { hostRoot, type IdMapping } from '../linux/index.ts'
import type { MetadataStore, SnapshotRecord } from '../metadata/index.ts'
import { hasHostIds } from './file-owners.ts'
import { isUnpackedTo } from './keys.ts'
import { storedMapping } from './labels.ts'
import type { RootOwner, SnapshotDirectories } from './snapshot-directories.ts'
import type { MountsReport, SnapshotMount } from './snapshot-info.ts'
import { prepareForMount, requireIntact, type VolatileDirectories } from './volatile.ts'

export interface SnapshotMountsOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly layers: LayerStore
  readonly stacks: StackMounts
  readonly directories: SnapshotDirectories
  /** The client mounts the layers. Snapshots for unpacking are overlays all the same: what applies a layer to them knows those. */
  readonly returnsErofs: boolean
  /** Options of every overlay mount, after its own. */
  readonly mountOptions: readonly string[]
  readonly bootId: string
}

/** The layers below a snapshot, mounted; undefined if there are none. */
interface Below {
  readonly lower: string | undefined
  readonly lease: Disposable | undefined
}

/** The first mount of a list, in options of the mounts behind it (containerd core/mount/manager/format.go). */
export const FIRST_MOUNT = '{{ mount 0 }}'

/** The mounts of snapshots: the layers below them as one EROFS mount, and the directories above it as an overlay that the client mounts. */
export class SnapshotMounts {
  readonly #options: SnapshotMountsOptions
  readonly #turnedOff: readonly string[]

  constructor(options: SnapshotMountsOptions) {
    this.#options = options
    this.#turnedOff = turnedOff(options.mountOptions)
  }

  /**
   * Mounts the layers of a snapshot with all its parents, itself first, and keeps them mounted until the lease is released.
   */
  async lease([snapshot, ...parents]: readonly SnapshotRecord[], idMapping?: IdMapping): Promise<Below> {
    if (snapshot?.chainId === undefined) return { lower: undefined, lease: undefined }
    const stack = { chainId: snapshot.chainId, diffIds: diffIdsOf([snapshot, ...parents]), idMapping }
    const { path, lease } = await this.#options.stacks.lease(stack, undefined)
    return { lower: path, lease }
  }

  /** Lists the layers below a snapshot, or with the layer that it is, base first. */
  layersBelow(id: number): DiffId[] {
    return diffIdsOf(this.#options.metadata.snapshots.chain(id))
  }

  /** Returns the mounts of an active snapshot or a view. */
  async of(snapshot: SnapshotRecord): Promise<SnapshotMount[]> {
    const { directories, metadata } = this.#options
    const { id } = snapshot
    this.requireIntact(snapshot, 'mount')
    // Read at once: an adoption turns directories into layers.
    const [own = snapshot, ...chain] = metadata.snapshots.chain(id)
    const idMapping = storedMapping(snapshot)
    const { lower, lease } = await this.lease([own, ...chain], idMapping)
    using _lease = lease
    const owner = () => this.ownerOfRoot(idMapping, chain[0], lower)
    // It was empty when a power cut removed it: no caller had waited for its content.
    if (snapshot.kind === 'active' && !existsSync(directories.of(id)))
      directories.place(directories.stage(snapshot, owner()), id)
    await directories.showLimited(snapshot, owner)
    const folders = chain.filter(({ diffId }) => diffId === undefined)
    const isView = snapshot.kind === 'view'
    if (folders.length === 0 && lower === undefined)
      return [bind(directories.files(snapshot), isView ? 'ro' : 'rw')]
    const isBind = isView && folders.length + (lower === undefined ? 0 : 1) === 1
    const canClientMap = lower === undefined && !isBind
    const { paths, options } = await this.#showFolders(folders, canClientMap, idMapping)
    const below = await this.#layersMount([own, ...chain])
    if (isBind) return [below ?? bind(lower ?? paths[0] ?? '', 'ro')]
    if (snapshot.kind === 'active') prepareForMount(options, this.#volatileDirectories(snapshot))
    const lowers = lower === undefined ? paths : [...paths, below === undefined ? lower : FIRST_MOUNT]
    return overlayOn(below, [...this.#overlayOptions(snapshot, lowers), ...options])
  }

  /**
   * Returns the mount of the layers below a snapshot, given with all its parents, itself first, that the client makes; undefined if there are none, or Loam has mounted them for
   * it. The data of the layers is here then.
   */
  async #layersMount(chain: readonly SnapshotRecord[]): Promise<SnapshotMount | undefined> {
    const { layers, returnsErofs } = this.#options
    const [snapshot] = chain
    if (!returnsErofs || snapshot === undefined || isUnpackedTo(snapshot.key)) return undefined
    const { chainId, idMapping } = snapshot
    if (chainId === undefined || idMapping !== undefined) return undefined
    const diffIds = diffIdsOf(chain)
    await layers.complete(diffIds)
    const { path, devices } = await layers.artifacts.mergedImage(chainId, diffIds)
    // `loop`: for kernels that cannot mount files.
    return {
      type: 'erofs',
      source: path,
      options: ['ro', 'loop', ...devices.map((each) => `device=${each.path}`)],
    }
  }

  /** @throws SNAPSHOT_INVALID for a snapshot whose files a crash may have damaged */
  requireIntact(snapshot: SnapshotRecord, attempted: string): void {
    const { bootId, paths } = this.#options
    requireIntact(paths, snapshot, { attempted, bootId })
  }

  #volatileDirectories(snapshot: SnapshotRecord): VolatileDirectories {
    const { bootId, directories } = this.#options
    return { directory: directories.of(snapshot.id), work: directories.work(snapshot), bootId }
  }

  /**
   * Returns the paths of unpacked snapshots for an overlay, and options for the client. A client that gets the option of a mapping maps the directory that
   * all lowers have in common, and no mount in it: so it gets one only for an overlay of directories that are all to be mapped.
   */
  async #showFolders(
    snapshots: readonly SnapshotRecord[],
    canClientMap: boolean,
    idMapping: IdMapping | undefined,
  ): Promise<{ readonly paths: string[]; readonly options: string[] }> {
    const { directories, mountOptions, stacks } = this.#options
    const options = [...mountOptions]
    const plain = snapshots.map((each) => directories.files(each))
    if (idMapping === undefined) return { paths: plain, options }
    const areMapped = snapshots.map((each) => hasHostIds(directories.files(each), each, idMapping))
    if (canClientMap && !areMapped.includes(true)) {
      const [uids = '', gids = ''] = idMapping.key.split('/')
      return { paths: plain, options: [`uidmap=${uids}`, `gidmap=${gids}`, ...options] }
    }
    const paths: string[] = []
    for (const [index, each] of snapshots.entries()) {
      const path = directories.files(each)
      paths.push(areMapped[index] === true ? path : await stacks.showFolder(each.id, path, idMapping))
    }
    return { paths, options }
  }

  /** Returns the owner of the upper directory of a new snapshot: the root of the mount has its attributes. */
  ownerOfRoot(
    idMapping: IdMapping | undefined,
    parent: SnapshotRecord | undefined,
    lower: string | undefined,
  ): RootOwner | undefined {
    if (idMapping !== undefined) return hostRoot(idMapping)
    const isLayer = parent === undefined || parent.diffId !== undefined
    const below = isLayer ? lower : this.#options.directories.files(parent)
    return below === undefined ? undefined : statSync(below)
  }

  #overlayOptions(snapshot: SnapshotRecord, lowers: readonly string[]): string[] {
    const { directories } = this.#options
    return [
      ...this.#turnedOff,
      ...(snapshot.kind === 'active'
        ? [`workdir=${directories.work(snapshot)}`, `upperdir=${directories.files(snapshot)}`]
        : []),
      `lowerdir=${lowers.join(':')}`,
    ]
  }

  /**
   * Unmounts the layers below a snapshot that was removed or committed, or was never recorded, and the folders that are shown with its mapping, unless
   * others use them.
   */
  release(snapshot: Pick<SnapshotRecord, 'kind' | 'chainId' | 'parentId' | 'idMapping'>): void {
    const { metadata, stacks } = this.#options
    const { chainId, parentId } = snapshot
    const idMapping = snapshot.kind === 'committed' ? undefined : storedMapping(snapshot)
    const parents =
      snapshot.kind === 'committed' || parentId === undefined ? [] : metadata.snapshots.chain(parentId)
    for (const parent of parents) {
      // One that was adopted since was shown as a directory on the stack below it.
      if (idMapping !== undefined) stacks.releaseFolder(parent.id, idMapping)
      if (parent.chainId !== undefined && existsSync(stacks.pathOf(parent.chainId)))
        stacks.release(parent.chainId, idMapping)
    }
    if (chainId !== undefined) stacks.release(chainId, idMapping)
  }

  /** Remounts the layers below active snapshots and views whose mounts are gone. Each stack succeeds or fails separately. */
  async restore(signal?: AbortSignal): Promise<MountsReport> {
    const { stacks } = this.#options
    const restored: string[] = []
    const failed: Failure[] = []
    for (const [chainId, { id, mappings }] of this.#stacksInUse()) {
      try {
        const stack = { chainId, diffIds: this.layersBelow(id), mappings: [...mappings.values()] }
        restored.push(...(await stacks.restore(stack, signal)))
      } catch (error) {
        failed.push({ what: `mount of ${chainId}`, reason: toLoamError(error, 'mount').message })
      }
    }
    failed.push(...(await this.#restoreDirectories()))
    return { restored, failed }
  }

  /** Mounts the directories with a limit, and returns the snapshots that cannot be mounted any more. */
  async #restoreDirectories(): Promise<Failure[]> {
    const { directories, metadata } = this.#options
    const failed: Failure[] = []
    for (const snapshot of metadata.snapshots.list()) {
      if (snapshot.kind !== 'active') continue
      try {
        this.requireIntact(snapshot, 'mount')
        await directories.attachLimited(snapshot)
      } catch (error) {
        failed.push({ what: `snapshot ${snapshot.key}`, reason: toLoamError(error, 'mount').message })
      }
    }
    return failed
  }

  /** The stacks below active snapshots and views, each with a snapshot on it, and with the mappings of all of them. */
  #stacksInUse(): Map<ChainId, { readonly id: number; readonly mappings: Map<string, IdMapping> }> {
    const found = new Map<ChainId, { readonly id: number; readonly mappings: Map<string, IdMapping> }>()
    for (const snapshot of this.#options.metadata.snapshots.list()) {
      const { id, chainId, kind } = snapshot
      if (kind === 'committed' || chainId === undefined) continue
      const stack = found.get(chainId) ?? { id, mappings: new Map<string, IdMapping>() }
      found.set(chainId, stack)
      const idMapping = storedMapping(snapshot)
      if (idMapping !== undefined) stack.mappings.set(idMapping.key, idMapping)
    }
    return found
  }
}

function diffIdsOf(chain: readonly SnapshotRecord[]): DiffId[] {
  return chain.flatMap(({ diffId }) => diffId ?? []).toReversed()
}

function overlayOn(below: SnapshotMount | undefined, options: readonly string[]): SnapshotMount[] {
  if (below === undefined) return [{ type: 'overlay', source: 'overlay', options }]
  return [below, { type: 'format/overlay', source: 'overlay', options }]
}

function bind(source: string, mode: 'ro' | 'rw'): SnapshotMount {
  return { type: 'bind', source, options: [mode, 'rbind'] }
}

/**
 * Returns options against what layers cannot represent, unless those of the settings are about it: an index of hard links, as containerd does if the
 * kernel knows it, and data of files and directories that are elsewhere, if this kernel does that by default.
 */
function turnedOff(mountOptions: readonly string[]): string[] {
  const defaultOf = (name: string) => {
    const path = `/sys/module/overlay/parameters/${name}`
    return existsSync(path) ? readFileSync(path, 'latin1').trim() : undefined
  }
  const isNamed = (name: string) => mountOptions.some((option) => option.startsWith(`${name}=`))
  return ['index', 'redirect_dir', 'metacopy']
    .filter((name) => (name === 'index' ? defaultOf(name) !== undefined : defaultOf(name) === 'Y'))
    .filter((name) => !isNamed(name))
    .map((name) => `${name}=off`)
}
