import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { StackMounts } from '../backends/index.ts'
import { type IngestArea, Removals, type StorePaths, type StoreReserve } from '../content/index.ts'
import { LoamError, toLoamError } from '../errors/index.ts'
import type { ChainId, DiffId } from '../image/index.ts'
import type { FolderUsage } from '../transform/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { type FileLock, nowMicroseconds } from '../linux/index.ts'
import type { MetadataStore, SnapshotRecord } from '../metadata/index.ts'
import { exists, notFound, quote } from './errors.ts'
import { parseFilters } from './filters.ts'
import {
  checkLabels,
  GID_MAPPING,
  type Labels,
  mappedRoot,
  SNAPSHOT_REF,
  UID_MAPPING,
  UPPERDIR,
  updateLabels,
} from './labels.ts'
import {
  type MountsReport,
  type SnapshotInfo,
  type SnapshotMount,
  type SnapshotUsage,
  toInfo,
} from './snapshot-info.ts'

/** A layer that is here, kept by a lease until its snapshot is recorded. */
export interface RemoteLayer {
  readonly diffId: DiffId
  readonly chainId: ChainId
  readonly usage: SnapshotUsage
  readonly lease: FileLock
}

export interface SnapshotterOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly layers: LayerStore
  /** Room for taking things away on a full disk. */
  readonly reserve: StoreReserve
  readonly stacks: StackMounts
  readonly ingest: () => IngestArea
  /** Tells what a folder takes of the disk. */
  readonly measure: (folder: string) => Promise<FolderUsage>
  /** Waits until all that was written to the file system of the store is on the disk. */
  readonly sync: () => Promise<void>
  readonly remote?: RemoteLayers
  /** Tell the folder that an active snapshot writes to by a label. Undefined: no. */
  readonly upperdirLabel?: boolean
  /** Options of every overlay mount, behind its own. */
  readonly mountOptions?: readonly string[]
}

/** What knows the layers that clients name by labels. */
export interface RemoteLayers {
  /** Says no to what may not be used, whether its layers are here or not. @throws POLICY_REFUSED */
  readonly admit: (labels: Labels) => Promise<void>
  /** Brings in the layer that labels name, on the layers below it; undefined to let the client unpack it. @throws NO_SPACE, where the client would fill the same disk */
  readonly fetch: (labels: Labels, below: readonly DiffId[]) => Promise<RemoteLayer | undefined>
}

/** Overlays keep an index of hard links unless they are told not to, where the kernel can. */
const HAS_INDEX = existsSync('/sys/module/overlay/parameters/index')

function setsIndex(options: readonly string[] = []): boolean {
  return options.some((option) => option.startsWith('index='))
}

/**
 * containerd's contract of a snapshotter over one store: snapshots with a directory each, and snapshots that are layers of the store and
 * never unpacked, shown together by one EROFS mount below the directories. A snapshotter mounts nothing for a container: it returns the
 * mounts, and the caller mounts them.
 *
 * The life of a snapshot. Import an image layer by layer:
 *
 *     mounts = await snapshotter.prepare('extract 1', '')        an active snapshot, empty; mount it, write the layer's files, unmount
 *     await snapshotter.commit('sha256:a…', 'extract 1')         its key is free again; the snapshot has a name and never changes
 *     mounts = await snapshotter.prepare('extract 2', 'sha256:a…')
 *     await snapshotter.commit('sha256:b…', 'extract 2')
 *
 * Run a container on it. A view is the same, but read-only, and cannot be committed:
 *
 *     mounts = await snapshotter.prepare('container', 'sha256:b…')
 *     mounts = await snapshotter.mounts('container')             the same again, after a restart for example
 *     await snapshotter.remove('container')
 *
 * A parent is committed before anything is prepared on it, and is removed after all of those (SNAPSHOT_IN_USE). Keys of active
 * snapshots and names of committed ones are one set of texts: each names one snapshot at a time (SNAPSHOT_EXISTS).
 *
 * Every call is one transaction of the database, or none: on failure there is no new row, and a kill leaves at most directories without a
 * row, which `cleanup` removes. All calls may be made at once; of two that want the same key, one fails.
 * Source: containerd core/snapshots/snapshotter.go and its overlay snapshotter.
 */
export class Snapshotter {
  readonly #options: SnapshotterOptions
  readonly #removals = new Removals()

  /** @internal */
  constructor(options: SnapshotterOptions) {
    this.#options = options
    mkdirSync(options.paths.snapshots, { recursive: true, mode: 0o700 })
  }

  /** @throws SNAPSHOT_NOT_FOUND */
  stat(key: string): SnapshotInfo {
    return this.#infoOf(this.#find(key))
  }

  /** Changes labels: all of them, or those that `fieldPaths` name. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_INVALID */
  async update(key: string, labels: Labels, fieldPaths: readonly string[] = []): Promise<SnapshotInfo> {
    const { snapshots } = this.#options.metadata
    return snapshots.transaction(() => {
      const current = this.#find(key)
      snapshots.setLabels(current.id, updateLabels(current.labels, labels, fieldPaths), nowMicroseconds())
      return this.#infoOf(this.#find(key))
    })
  }

  /** The label is told and never kept, so that it is true wherever the store is. */
  #infoOf(snapshot: SnapshotRecord): SnapshotInfo {
    const info = toInfo(snapshot)
    if (this.#options.upperdirLabel !== true || snapshot.diffId !== undefined) return info
    return { ...info, labels: { ...info.labels, [UPPERDIR]: this.#fs(snapshot.id) } }
  }

  /** What a snapshot takes by itself: of an active one now, of a committed one when it was committed. @throws SNAPSHOT_NOT_FOUND */
  async usage(key: string): Promise<SnapshotUsage> {
    const { id, kind, sizeBytes, inodes } = this.#find(key)
    if (kind !== 'active') return { sizeBytes, inodes }
    return this.#measure(id)
  }

  async #measure(id: number): Promise<SnapshotUsage> {
    const { bytes, inodes } = await this.#options.measure(this.#fs(id))
    return { sizeBytes: bytes, inodes }
  }

  /** How an active snapshot or a view is mounted, also after a restart. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND */
  async mounts(key: string): Promise<SnapshotMount[]> {
    const snapshot = this.#find(key)
    if (snapshot.kind === 'committed') {
      throw new LoamError('SNAPSHOT_KIND', `mount snapshot ${quote(key)}: it is committed`)
    }
    return this.#mountsOf(snapshot)
  }

  /** Makes an active snapshot on a committed one, or on nothing. @throws SNAPSHOT_EXISTS, SNAPSHOT_NOT_FOUND, SNAPSHOT_INVALID; SNAPSHOT_EXISTS, too, when the layer that the labels name is here now, committed */
  async prepare(key: string, parent: string, labels: Labels = {}): Promise<SnapshotMount[]> {
    const ref = labels[SNAPSHOT_REF]
    if (ref !== undefined && (await this.#claimLayer(key, parent, ref, labels))) {
      throw new LoamError(
        'SNAPSHOT_EXISTS',
        `prepare snapshot ${quote(key)}: the layer exists as ${quote(ref)}`,
      )
    }
    return this.#create('active', key, parent, labels)
  }

  /** Makes a snapshot that is read and cannot be committed. @throws as `prepare` */
  async view(key: string, parent: string, labels: Labels = {}): Promise<SnapshotMount[]> {
    return this.#create('view', key, parent, labels)
  }

  async #create(
    kind: 'active' | 'view',
    key: string,
    parent: string,
    given: Labels,
  ): Promise<SnapshotMount[]> {
    if (key === '') throw new LoamError('SNAPSHOT_INVALID', 'create snapshot: the name is empty')
    const labels = checkLabels(given)
    const { snapshots } = this.#options.metadata
    if (snapshots.find(key) !== undefined) throw exists(key)
    // Before the row, so that a mount that cannot be made leaves none; held until the row keeps it.
    const below = this.#findParent(parent)
    const { lower, lease } = await this.#leaseStack(below)
    using _lease = lease
    const staged = this.#stage(kind, labels, below, lower)
    let made: number | undefined
    try {
      await snapshots.transaction(() => {
        if (snapshots.find(key) !== undefined) throw exists(key)
        const id = snapshots.insert({
          key,
          kind,
          parentId: this.#findParent(parent)?.id,
          labels,
          createdUs: nowMicroseconds(),
          sizeBytes: 0,
          inodes: 0,
          diffId: undefined,
          chainId: below?.chainId,
        })
        this.#place(staged, id)
        made = id
      })
      return await this.#mountsOf(this.#find(key))
    } catch (error) {
      this.#removals.discard(this.#options.paths, staged)
      const failed = made
      if (failed !== undefined) await this.#options.reserve.freeLater(async () => this.#forget(failed))
      throw error
    }
  }

  /** Takes a snapshot back whose maker is told that it failed. */
  #forget(id: number): void {
    const { snapshots } = this.#options.metadata
    snapshots.exclusively(() => {
      if (!snapshots.hasChildren(id)) snapshots.remove(id)
    })
    this.#removals.discard(this.#options.paths, this.#folder(id))
  }

  /** Nobody has a folder of an id that no row has; what a crash left there is in the way. */
  #place(staged: string, id: number): void {
    const folder = this.#folder(id)
    if (existsSync(folder)) this.#removals.discard(this.#options.paths, folder)
    renameSync(staged, folder)
  }

  /** Makes the folders of a snapshot where nobody sees them yet. */
  #stage(
    kind: 'active' | 'view',
    labels: Labels,
    parent: SnapshotRecord | undefined,
    lower: string | undefined,
  ): string {
    const owner = this.#ownerOfRoot(labels, parent, lower)
    const staged = this.#options.ingest().newPath('snapshot')
    mkdirSync(staged, { mode: 0o700 })
    const fs = join(staged, 'fs')
    mkdirSync(fs)
    chmodSync(fs, 0o755)
    if (kind === 'active') mkdirSync(join(staged, 'work'), { mode: 0o711 })
    if (owner !== undefined) chownSync(fs, owner.uid, owner.gid)
    return staged
  }

  /** The root of what is shown has the attributes of the upper folder. */
  #ownerOfRoot(
    labels: Labels,
    parent: SnapshotRecord | undefined,
    lower: string | undefined,
  ): { uid: number; gid: number } | undefined {
    const uids = labels[UID_MAPPING]
    const gids = labels[GID_MAPPING]
    if (uids !== undefined && gids !== undefined) return { uid: mappedRoot(uids), gid: mappedRoot(gids) }
    const below = parent === undefined || parent.diffId !== undefined ? lower : this.#fs(parent.id)
    return below === undefined ? undefined : statSync(below)
  }

  /** Turns an active snapshot into a committed one; the data is on the disk before its row is. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND, SNAPSHOT_EXISTS, SNAPSHOT_INVALID */
  async commit(name: string, key: string, given: Labels = {}, rebase = ''): Promise<void> {
    if (name === '') throw new LoamError('SNAPSHOT_INVALID', 'commit snapshot: the name is empty')
    const labels = checkLabels(given)
    const { snapshots } = this.#options.metadata
    const { id } = this.#findActive(key)
    if (snapshots.find(name) !== undefined) throw exists(name)
    await this.#options.sync()
    // What a file takes is known only now.
    const usage = await this.#measure(id)
    await snapshots.transaction(() => {
      const current = this.#findActive(key)
      if (current.id !== id) throw notFound(key)
      if (snapshots.find(name) !== undefined) throw exists(name)
      const parent = this.#rebased(current, rebase)
      snapshots.commit(id, {
        key: name,
        labels,
        ...usage,
        createdUs: nowMicroseconds(),
        parentId: parent?.id,
        chainId: parent?.chainId,
      })
    })
  }

  #rebased(current: SnapshotRecord, rebase: string): SnapshotRecord | undefined {
    if (current.parent !== '' && rebase !== '' && current.parent !== rebase) {
      throw new LoamError(
        'SNAPSHOT_INVALID',
        `commit snapshot ${quote(current.key)}: its parent is ${quote(current.parent)}, expected ${quote(rebase)}`,
      )
    }
    const parent = current.parent === '' ? rebase : current.parent
    if (parent === '') return undefined
    const record = this.#find(parent)
    if (record.kind === 'committed') return record
    throw new LoamError('SNAPSHOT_KIND', `commit snapshot onto ${quote(parent)}: it is not committed`)
  }

  #findActive(key: string): SnapshotRecord {
    const snapshot = this.#find(key)
    if (snapshot.kind === 'active') return snapshot
    throw new LoamError('SNAPSHOT_KIND', `commit snapshot ${quote(key)}: it is ${snapshot.kind}`)
  }

  /** Removes a snapshot that no other lies on. Its files go afterwards. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_IN_USE */
  async remove(key: string): Promise<void> {
    const { metadata, paths, reserve, stacks } = this.#options
    const { snapshots } = metadata
    const remove = () => {
      const snapshot = this.#find(key)
      if (snapshots.hasChildren(snapshot.id)) {
        throw new LoamError('SNAPSHOT_IN_USE', `remove snapshot ${quote(key)}: other snapshots depend on it`)
      }
      snapshots.remove(snapshot.id)
      return snapshot
    }
    const removed = await reserve.freeQuickly(async () => snapshots.transaction(remove))
    if (removed.diffId === undefined) this.#removals.discard(paths, this.#folder(removed.id))
    const { chainId } = removed
    if (chainId !== undefined) stacks.shared.release(chainId)
  }

  /** Yields what is known of all snapshots that match one of the filters, in the order of their making; other calls may be made meanwhile. @throws SNAPSHOT_INVALID */
  *list(filters: readonly string[] = []): Generator<SnapshotInfo> {
    const matches = parseFilters(filters)
    for (const snapshot of this.#options.metadata.snapshots.list()) {
      if (matches(toInfo(snapshot))) yield this.#infoOf(snapshot)
    }
  }

  /** Calls a function for each of them. */
  async walk(
    act: (info: SnapshotInfo) => void | Promise<void>,
    filters: readonly string[] = [],
  ): Promise<void> {
    for (const info of this.list(filters)) await act(info)
  }

  /** Waits until what was removed is gone from the disk, and removes folders without a snapshot, and layers that nobody needs. */
  async cleanup(): Promise<void> {
    await this.#options.reserve.freeLater(async () => this.#cleanup())
  }

  async #cleanup(): Promise<void> {
    const { paths, metadata, layers } = this.#options
    const unknown = metadata.snapshots.exclusively(() => {
      const ids = metadata.snapshots.ids()
      return readdirSync(paths.snapshots).filter((name) => !ids.has(Number(name)))
    })
    for (const name of unknown) this.#removals.discard(paths, join(paths.snapshots, name))
    await layers.prune()
    await layers.settle()
    await this.#removals.settle()
  }

  /** @internal Mounts again the layers below snapshots that are written to or read, where their mounts are gone. Ends for each stack by itself. */
  async restoreMounts(signal?: AbortSignal): Promise<MountsReport> {
    const { metadata, stacks } = this.#options
    const restored: string[] = []
    const failed: { what: string; reason: string }[] = []
    const used = [...metadata.snapshots.list()].filter(({ kind }) => kind !== 'committed')
    for (const [chainId, id] of new Map(used.map((snapshot) => [snapshot.chainId, snapshot.id]))) {
      if (chainId === undefined) continue
      try {
        const path = await stacks.restore(chainId, this.#layersBelow(id), signal)
        if (path !== undefined) restored.push(path)
      } catch (error) {
        failed.push({ what: `mount of ${chainId}`, reason: toLoamError(error, 'mount').message })
      }
    }
    return { restored, failed }
  }

  #layersBelow(id: number): DiffId[] {
    const chain = this.#options.metadata.snapshots.chain(id)
    return chain.flatMap(({ diffId }) => diffId ?? []).toReversed()
  }

  /** @internal Waits for what is under way. May be called again. */
  async close(): Promise<void> {
    await this.#removals.settle()
  }

  /**
   * @internal
   * Makes a snapshot with files that come from elsewhere: `fill` writes them into its folder, in the form of overlayfs. On failure nothing of
   * it is left. @throws as `prepare` and `commit`, and what `fill` throws
   */
  async adopt(
    { name, parent, kind }: Pick<SnapshotInfo, 'name' | 'parent' | 'kind'>,
    fill: (folder: string) => Promise<void>,
  ): Promise<void> {
    if (kind === 'view') {
      await this.view(name, parent)
      return
    }
    const key = kind === 'active' ? name : `${name} (adopted)`
    await this.prepare(key, parent)
    try {
      await fill(this.#fs(this.#find(key).id))
      if (kind === 'committed') await this.commit(name, key)
    } catch (error) {
      await this.remove(key)
      throw error
    }
  }

  /** Has a layer brought in and recorded as a committed snapshot. Returns false when the client has to do it. */
  async #claimLayer(key: string, parent: string, ref: string, labels: Labels): Promise<boolean> {
    const { remote, metadata } = this.#options
    const { snapshots } = metadata
    if (remote === undefined || snapshots.find(key) !== undefined) return false
    await remote.admit(labels)
    const known = snapshots.find(ref)
    if (known !== undefined) return known.diffId !== undefined && known.parent === parent
    const below = this.#findParent(parent)
    if (below !== undefined && below.diffId === undefined) return false
    const chain = below === undefined ? [] : snapshots.chain(below.id)
    const layer = await remote.fetch(labels, chain.flatMap(({ diffId }) => diffId ?? []).toReversed())
    if (layer === undefined) return false
    using _lease = layer.lease
    if (layer.chainId !== ref) return false
    return await snapshots.transaction(() => {
      const again = snapshots.find(ref)
      if (again !== undefined) return again.diffId === layer.diffId && again.parent === parent
      snapshots.insert({
        key: ref,
        kind: 'committed',
        parentId: this.#findParent(parent)?.id,
        labels: checkLabels(labels),
        createdUs: nowMicroseconds(),
        ...layer.usage,
        diffId: layer.diffId,
        chainId: layer.chainId,
      })
      return true
    })
  }

  #find(key: string): SnapshotRecord {
    const snapshot = this.#options.metadata.snapshots.find(key)
    if (snapshot === undefined) throw notFound(key)
    return snapshot
  }

  #findParent(parent: string): SnapshotRecord | undefined {
    if (parent === '') return undefined
    const snapshot = this.#find(parent)
    if (snapshot.kind === 'committed') return snapshot
    throw new LoamError('SNAPSHOT_INVALID', `create snapshot on ${quote(parent)}: it is not committed`)
  }

  /** Mounts the layers that a snapshot lies on, or is. */
  async #leaseStack(
    snapshot: SnapshotRecord | undefined,
  ): Promise<{ lower: string | undefined; lease: FileLock | undefined }> {
    if (snapshot?.chainId === undefined) return { lower: undefined, lease: undefined }
    const diffIds = this.#layersBelow(snapshot.id)
    const { path, lease } = await this.#options.stacks.lease(snapshot.chainId, diffIds, undefined)
    return { lower: path, lease }
  }

  async #mountsOf(snapshot: SnapshotRecord): Promise<SnapshotMount[]> {
    const { id } = snapshot
    const chain = this.#options.metadata.snapshots.chain(id).slice(1)
    const { lower, lease } = await this.#leaseStack(snapshot)
    using _lease = lease
    if (snapshot.kind === 'active' && !existsSync(this.#folder(id))) {
      // It was empty when a power cut took it: nothing of it had been waited for.
      this.#place(this.#stage('active', snapshot.labels, chain[0], lower), id)
    }
    const folders = chain.filter(({ diffId }) => diffId === undefined).map((below) => this.#fs(below.id))
    const lowers = lower === undefined ? folders : [...folders, lower]
    const isView = snapshot.kind === 'view'
    const [only, other] = lowers
    if (only === undefined) return [bind(this.#fs(id), isView ? 'ro' : 'rw')]
    if (isView && other === undefined) return [bind(only, 'ro')]
    return [{ type: 'overlay', source: 'overlay', options: this.#overlayOptions(snapshot, lowers) }]
  }

  #overlayOptions({ id, kind, labels }: SnapshotRecord, lowers: readonly string[]): string[] {
    const uids = labels[UID_MAPPING]
    const gids = labels[GID_MAPPING]
    return [
      ...(HAS_INDEX && !setsIndex(this.#options.mountOptions) ? ['index=off'] : []),
      ...(kind === 'active' ? [`workdir=${join(this.#folder(id), 'work')}`, `upperdir=${this.#fs(id)}`] : []),
      `lowerdir=${lowers.join(':')}`,
      ...(uids === undefined || gids === undefined ? [] : [`uidmap=${uids}`, `gidmap=${gids}`]),
      ...(this.#options.mountOptions ?? []),
    ]
  }

  #folder(id: number): string {
    return join(this.#options.paths.snapshots, String(id))
  }

  #fs(id: number): string {
    return join(this.#folder(id), 'fs')
  }
}

function bind(source: string, mode: 'ro' | 'rw'): SnapshotMount {
  return { type: 'bind', source, options: [mode, 'rbind'] }
}
