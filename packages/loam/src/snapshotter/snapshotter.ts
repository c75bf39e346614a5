import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { LoamError } from '../errors/index.ts'
import type { UnknownLayer } from '../layers/index.ts'
import { type FileLock, nowMicroseconds } from '../linux/index.ts'
import { type NewSnapshot, type SnapshotKey, snapshotKey, type SnapshotRecord } from '../metadata/index.ts'
import { exists, notCopied, notFound, quote } from './errors.ts'
import { parseFilters } from './filters.ts'
import { parentKey, type Place } from './keys.ts'
import { adoptLayers, type AdoptedLayer, discardAdopted } from './adopted-layers.ts'
import { type AppliedLayer, AppliedLayers } from './applied-layers.ts'
import { copyUpper } from './copy-upper.ts'
import { LayerClaims } from './layer-claims.ts'
import {
  checkLabels,
  idMappingOf,
  type Labels,
  maxBytesOf,
  SNAPSHOT_REF,
  UPPERDIR,
  updateLabels,
} from './labels.ts'
import { SnapshotDirectories } from './snapshot-directories.ts'
import {
  type MountsReport,
  type SnapshotInfo,
  type SnapshotMount,
  type SnapshotUsage,
  toInfo,
} from './snapshot-info.ts'
import { SnapshotMounts } from './snapshot-mounts.ts'
import type { SnapshotCommitOptions, SnapshotterOptions } from './snapshotter-options.ts'

/**
 * containerd's contract of a snapshotter over one store: snapshots with a directory each, and snapshots that are layers of the store and
 * never unpacked, mounted together as one EROFS mount below the directories. A snapshotter mounts nothing for a container: it returns the
 * mounts, and the caller mounts them.
 *
 * The life cycle of a snapshot. Import an image layer by layer:
 *
 *     mounts = await snapshotter.prepare('extract 1', '')        an active snapshot, empty; mount it, write the layer's files, unmount
 *     await snapshotter.commit({ name: 'sha256:a…', key: 'extract 1' })   frees the key; the snapshot never changes
 *     mounts = await snapshotter.prepare('extract 2', 'sha256:a…')
 *     await snapshotter.commit({ name: 'sha256:b…', key: 'extract 2' })
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
 * row, which `cleanup` removes. All calls may be made concurrently; of two calls with the same key, one fails.
 * Source: containerd core/snapshots/snapshotter.go and its overlay snapshotter.
 */
export class Snapshotter {
  readonly #options: SnapshotterOptions
  readonly #directories: SnapshotDirectories
  readonly #mounts: SnapshotMounts
  readonly #claims: LayerClaims
  readonly #applied: AppliedLayers

  /** @internal */
  constructor(options: SnapshotterOptions) {
    this.#options = options
    const { bootId, metadata, layers, stacks, returnsErofs = false, mountOptions = [] } = options
    this.#directories = new SnapshotDirectories(options)
    this.#mounts = new SnapshotMounts({
      paths: options.paths,
      metadata,
      layers,
      stacks,
      directories: this.#directories,
      returnsErofs,
      mountOptions,
      bootId,
    })
    const { remote } = options
    const findParent = (parent: SnapshotKey | undefined) => this.#findParent(parent)
    this.#claims = new LayerClaims({ remote, metadata, mounts: this.#mounts, findParent })
    this.#applied = new AppliedLayers({ ...options, mounts: this.#mounts })
  }

  /** Returns the information about a snapshot. @throws SNAPSHOT_NOT_FOUND */
  async stat(key: string): Promise<SnapshotInfo> {
    return this.#infoOf(this.#find(snapshotKey(key)))
  }

  /** Changes labels: all of them, or those that `fieldPaths` name. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_INVALID */
  async update(name: string, labels: Labels, fieldPaths: readonly string[] = []): Promise<SnapshotInfo> {
    const key = snapshotKey(name)
    const { activity, metadata } = this.#options
    const { snapshots } = metadata
    const change = () => {
      const current = this.#find(key)
      snapshots.setLabels(current.id, updateLabels(current.labels, labels, fieldPaths), nowMicroseconds())
      return this.#infoOf(this.#find(key))
    }
    return activity.observe('snapshots.update', { key }, async () => snapshots.transaction(change))
  }

  /** The label is computed and never stored, so that it is right wherever the store is. */
  #infoOf(snapshot: SnapshotRecord): SnapshotInfo {
    const info = toInfo(snapshot)
    if (this.#options.upperdirLabel !== true || snapshot.diffId !== undefined) return info
    return { ...info, labels: { ...info.labels, [UPPERDIR]: this.#directories.files(snapshot) } }
  }

  /** Returns the disk usage of a snapshot without its parents: of an active one now, of a committed one at its commit. @throws SNAPSHOT_NOT_FOUND */
  async usage(key: string): Promise<SnapshotUsage> {
    const snapshot = this.#find(snapshotKey(key))
    const { kind, sizeBytes, inodes } = snapshot
    return kind === 'active' ? this.#measure(snapshot) : { sizeBytes, inodes }
  }

  async #measure(snapshot: SnapshotRecord): Promise<SnapshotUsage> {
    const files = this.#directories.files(snapshot)
    await this.#directories.attachLimited(snapshot)
    // A kill while it was created; the next caller that mounts it gets it complete.
    if (snapshot.maxBytes !== undefined && !existsSync(files)) return { sizeBytes: 0, inodes: 0 }
    return this.#measureFolder(files)
  }

  async #measureFolder(folder: string): Promise<SnapshotUsage> {
    const { bytes, inodes } = await this.#options.measure(folder)
    return { sizeBytes: bytes, inodes }
  }

  /** Returns the mounts of an active snapshot or a view, also after a restart. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND */
  async mounts(key: string): Promise<SnapshotMount[]> {
    const snapshot = this.#find(snapshotKey(key))
    if (snapshot.kind === 'committed') {
      throw new LoamError('SNAPSHOT_KIND', `mount snapshot ${quote(key)}: it is committed`)
    }
    if (snapshot.appliedDiffId !== undefined)
      throw new LoamError(
        'SNAPSHOT_INVALID',
        `mount snapshot ${quote(key)}: a layer was applied to it; commit it first`,
      )
    return this.#mounts.of(snapshot)
  }

  /**
   * Creates an active snapshot on a committed one, or without a parent. @throws SNAPSHOT_EXISTS, also if the layer that the labels name is now in the
   * store as a committed snapshot; SNAPSHOT_NOT_FOUND, SNAPSHOT_INVALID
   */
  async prepare(key: string, parent: string, labels: Labels = {}): Promise<SnapshotMount[]> {
    // The signature of `prepare` and `view` is containerd's own: plain texts, an empty parent for none. They become keys here.
    const place = { key: snapshotKey(key), parent: parentKey(parent) }
    const ref = labels[SNAPSHOT_REF]
    return this.#options.activity.observe('snapshots.prepare', { key, parent }, async () => {
      if (ref !== undefined && (await this.#claims.claim(place, snapshotKey(ref), labels))) {
        throw new LoamError(
          'SNAPSHOT_EXISTS',
          `prepare snapshot ${quote(key)}: the layer exists as ${quote(ref)}`,
        )
      }
      return this.#create('active', place, labels)
    })
  }

  /** Creates a read-only snapshot, which cannot be committed. @throws as `prepare` */
  async view(key: string, parent: string, labels: Labels = {}): Promise<SnapshotMount[]> {
    const place = { key: snapshotKey(key), parent: parentKey(parent) }
    return this.#options.activity.observe('snapshots.view', { key, parent }, async () =>
      this.#create('view', place, labels),
    )
  }

  async #create(kind: 'active' | 'view', { key, parent }: Place, given: Labels): Promise<SnapshotMount[]> {
    if (key.length === 0) throw new LoamError('SNAPSHOT_INVALID', 'create snapshot: the name is empty')
    const labels = checkLabels(given)
    if (this.#options.metadata.snapshots.find(key) !== undefined) throw exists(key)
    for (;;) {
      const mounts = await this.#createOn(this.#chainOf(parent), { kind, key, parent, labels })
      if (mounts !== undefined) return mounts
    }
  }

  /** Returns undefined, and leaves nothing, if layers of the parent were adopted meanwhile. */
  async #createOn(
    chain: readonly SnapshotRecord[],
    { kind, key, parent, labels }: Place & Pick<NewSnapshot, 'labels'> & { readonly kind: 'active' | 'view' },
  ): Promise<SnapshotMount[] | undefined> {
    const { snapshots } = this.#options.metadata
    const [below] = chain
    const idMapping = idMappingOf(labels)
    const maxBytes = kind === 'active' ? maxBytesOf(labels) : undefined
    // Before the row, so that a failed mount leaves none; held until the row keeps it.
    const { lower, lease } = await this.#mounts.lease(chain, idMapping)
    using _lease = lease
    let staged: string | undefined
    let made: number | undefined
    try {
      const owner = this.#mounts.ownerOfRoot(idMapping, below, lower)
      const directory = this.#directories.stage({ kind, maxBytes }, owner)
      staged = directory
      await snapshots.transaction(() => {
        if (snapshots.find(key) !== undefined) throw exists(key)
        // The parent may have been replaced or adopted while its layers were mounted.
        const current = this.#findParent(parent)
        if (parent !== undefined && (current?.id !== below?.id || !hasSameLayers(current, below)))
          throw notFound(parent)
        const id = snapshots.insert({
          key,
          kind,
          parentId: below?.id,
          labels,
          idMapping: idMapping?.key,
          maxBytes,
          createdUs: nowMicroseconds(),
          sizeBytes: 0,
          inodes: 0,
          diffId: undefined,
          chainId: below?.chainId,
        })
        this.#directories.place(directory, id)
        made = id
      })
      return await this.#mounts.of(this.#find(key))
    } catch (error) {
      if (staged !== undefined) this.#directories.discard(staged)
      const failed = made
      if (failed !== undefined) await this.#options.reserve.freeLater(async () => this.#forget(failed, key))
      lease?.[Symbol.dispose]()
      this.#mounts.release({ kind, chainId: below?.chainId, parentId: below?.id, idMapping: idMapping?.key })
      // Its directories may be gone, too.
      if (failed === undefined && below !== undefined && this.#wasAdopted(below)) return undefined
      throw error
    }
  }

  #wasAdopted(snapshot: SnapshotRecord): boolean {
    const current = this.#options.metadata.snapshots.get(snapshot.id)
    return current !== undefined && !hasSameLayers(current, snapshot)
  }

  /** Removes a snapshot whose creation is reported as failed. */
  async #forget(id: number, key: SnapshotKey): Promise<void> {
    const { snapshots } = this.#options.metadata
    await snapshots.exclusively(() => {
      // If the row was rolled back, another snapshot may have its ID by now.
      if (snapshots.find(key)?.id === id && !snapshots.hasChildren(id)) snapshots.remove(id)
      if (!snapshots.ids().has(id)) this.#directories.discard(this.#directories.of(id))
    })
  }

  /**
   * @internal
   * Applies the blob of a layer to the snapshot that mounts write to: nothing is unpacked, and the commit of the snapshot is that layer of the store.
   * Undefined if the client has to unpack it: the mounts are not those of an empty active snapshot on layers, or this machine cannot show the layer.
   * @throws the errors of the blob's source, and those of a damaged or refused layer
   */
  async apply(
    mounts: readonly SnapshotMount[],
    layer: UnknownLayer,
    signal?: AbortSignal,
  ): Promise<AppliedLayer | undefined> {
    return this.#options.activity.observe('snapshots.apply', { blob: layer.blob.digest }, async () =>
      this.#applied.apply(mounts, layer, signal),
    )
  }

  /** @internal Finds the snapshot whose changes are what differs between the mounts of its parent and its own, and returns its key. */
  findChange(left: readonly SnapshotMount[], right: readonly SnapshotMount[]): string | undefined {
    return this.#applied.findChange(left, right)?.key
  }

  /** Turns an active snapshot into a committed one; the data is on the disk before its row is. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_KIND, SNAPSHOT_EXISTS, SNAPSHOT_INVALID */
  async commit(options: SnapshotCommitOptions): Promise<void> {
    const { name, key } = options
    return this.#options.activity.observe('snapshots.commit', { key, name }, async () =>
      this.#commit(options),
    )
  }

  async #commit({
    name: asName,
    key: asKey,
    labels: given = {},
    rebase = '',
  }: SnapshotCommitOptions): Promise<void> {
    const [name, key] = [snapshotKey(asName), snapshotKey(asKey)]
    if (asName === '') throw new LoamError('SNAPSHOT_INVALID', 'commit snapshot: the name is empty')
    const labels = checkLabels(given)
    const { snapshots } = this.#options.metadata
    const active = this.#findActive(key)
    const { id } = active
    if (snapshots.find(name) !== undefined) throw exists(name)
    this.#mounts.requireIntact(active, 'commit')
    using _lock = active.maxBytes === undefined ? undefined : await this.#replaceLimited(active)
    await this.#options.sync()
    // The disk usage of its files is final only now.
    const usage = await this.#measure({ ...active, maxBytes: undefined })
    const isLayer = await snapshots.transaction(() => {
      const current = this.#findActive(key)
      if (current.id !== id) throw notFound(key)
      if (snapshots.find(name) !== undefined) throw exists(name)
      const parent = this.#rebased(current, parentKey(rebase))
      const layer = this.#applied.committed(current, parent)
      snapshots.commit(id, {
        key: name,
        labels,
        ...(layer?.usage ?? usage),
        createdUs: nowMicroseconds(),
        parentId: parent?.id,
        diffId: layer?.diffId,
        chainId: layer?.chainId ?? parent?.chainId,
      })
      return layer !== undefined
    })
    if (isLayer) this.#directories.discard(this.#directories.of(id))
    if (active.maxBytes !== undefined) await this.#directories.removeLimited(id)
    this.#mounts.release(active)
  }

  /**
   * A committed snapshot is below others, and must not need a mount of its own: its files are copied out of the directory with the limit, and are in their
   * place when they are synced. The returned lock is held until the snapshot is committed.
   */
  async #replaceLimited(snapshot: SnapshotRecord): Promise<FileLock> {
    const { id, key } = snapshot
    await this.#mounts.of(snapshot)
    const to = this.#options.ingest().newPath('committed')
    mkdirSync(to)
    using cleanup = new DisposableStack()
    cleanup.defer(() => {
      if (existsSync(to)) this.#directories.discard(to)
    })
    const { leftOut } = await copyUpper(
      this.#options,
      { from: this.#directories.files(snapshot), to },
      undefined,
    )
    if (leftOut.length > 0) throw notCopied(key, leftOut)
    const lock = cleanup.use(await this.#directories.lockLimited(id))
    // Another call may have committed it meanwhile.
    if (this.#findActive(key).id !== id) throw notFound(key)
    this.#directories.placeCopy(to, id)
    cleanup.move()
    return lock
  }

  #rebased(current: SnapshotRecord, rebase: SnapshotKey | undefined): SnapshotRecord | undefined {
    if (current.parent !== undefined && rebase !== undefined && current.parent !== rebase) {
      throw new LoamError(
        'SNAPSHOT_INVALID',
        `commit snapshot ${quote(current.key)}: its parent is ${quote(current.parent)}, expected ${quote(rebase)}`,
      )
    }
    const parent = current.parent ?? rebase
    if (parent === undefined) return undefined
    const record = this.#find(parent)
    if (record.kind === 'committed') return record
    throw new LoamError('SNAPSHOT_KIND', `commit snapshot onto ${quote(parent)}: it is not committed`)
  }

  #findActive(key: SnapshotKey): SnapshotRecord {
    const snapshot = this.#find(key)
    if (snapshot.kind === 'active') return snapshot
    throw new LoamError('SNAPSHOT_KIND', `commit snapshot ${quote(key)}: it is ${snapshot.kind}`)
  }

  /** Removes a snapshot without children. Its files are removed afterwards. @throws SNAPSHOT_NOT_FOUND, SNAPSHOT_IN_USE */
  async remove(name: string): Promise<void> {
    const key = snapshotKey(name)
    const { activity, metadata, reserve } = this.#options
    const { snapshots } = metadata
    const remove = () => {
      const snapshot = this.#find(key)
      if (snapshots.hasChildren(snapshot.id)) {
        throw new LoamError('SNAPSHOT_IN_USE', `remove snapshot ${quote(key)}: other snapshots depend on it`)
      }
      snapshots.remove(snapshot.id)
      return snapshot
    }
    const removed = await activity.observe('snapshots.remove', { key }, async () =>
      reserve.freeQuickly(async () => snapshots.transaction(remove)),
    )
    // One that was unpacked first may have a directory although it is a layer.
    this.#directories.discard(this.#directories.of(removed.id))
    this.#mounts.release(removed)
  }

  /**
   * Yields the information about all snapshots that match one of the filters, in the order of their creation; other calls may be made meanwhile.
   * @throws SNAPSHOT_INVALID
   */
  async *list(filters: readonly string[] = []): AsyncGenerator<SnapshotInfo, void> {
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
    for await (const info of this.list(filters)) await act(info)
  }

  /** Waits until the files of removed snapshots are removed, and removes folders without a snapshot and unused layers. */
  async cleanup(): Promise<void> {
    await this.#options.reserve.freeLater(async () => this.#cleanup())
  }

  async #cleanup(): Promise<void> {
    const { paths, metadata, layers } = this.#options
    await metadata.snapshots.exclusively(() => {
      const ids = metadata.snapshots.ids()
      const unknown = this.#directories.names().filter((name) => !ids.has(Number(name)))
      for (const name of unknown) this.#directories.discard(join(paths.snapshots, name))
      discardAdopted(metadata, this.#directories)
    })
    await this.#directories.removeUnlimited(metadata.snapshots.list())
    await layers.prune()
    await layers.settle()
    await this.#directories.settle()
  }

  /**
   * @internal
   * Turns the snapshots that clients have unpacked the layers of an image to into these layers, and returns their names. The caller holds leases on the
   * layers, base first. What is mounted stays as it is; the directories are removed by `cleanup` when nothing uses them.
   */
  async adoptLayers(layers: readonly AdoptedLayer[]): Promise<string[]> {
    return adoptLayers(this.#options.metadata, layers)
  }

  /** @internal Remounts the layers below active snapshots and views whose mounts are gone. Each stack succeeds or fails separately. */
  async restoreMounts(signal?: AbortSignal): Promise<MountsReport> {
    return this.#mounts.restore(signal)
  }

  /** @internal Waits for calls in progress. May be called again. */
  async close(): Promise<void> {
    await this.#directories.settle()
  }

  /**
   * @internal
   * Creates a snapshot with files from elsewhere: `fill` writes them into its folder, with overlayfs whiteouts. On failure nothing of it is left.
   * @throws as `prepare` and `commit`, and the errors of `fill`
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
      await fill(this.#directories.files(this.#find(snapshotKey(key))))
      if (kind === 'committed') await this.commit({ name, key })
    } catch (error) {
      await this.remove(key)
      throw error
    }
  }

  #find(key: SnapshotKey): SnapshotRecord {
    const snapshot = this.#options.metadata.snapshots.find(key)
    if (snapshot === undefined) throw notFound(key)
    return snapshot
  }

  #chainOf(parent: SnapshotKey | undefined): SnapshotRecord[] {
    const snapshot = this.#findParent(parent)
    return snapshot === undefined ? [] : this.#options.metadata.snapshots.chain(snapshot.id)
  }

  #findParent(parent: SnapshotKey | undefined): SnapshotRecord | undefined {
    if (parent === undefined) return undefined
    const snapshot = this.#find(parent)
    if (snapshot.kind === 'committed') return snapshot
    throw new LoamError('SNAPSHOT_INVALID', `create snapshot on ${quote(parent)}: it is not committed`)
  }
}

/** An adoption keeps the ID of a snapshot. */
function hasSameLayers(one: SnapshotRecord | undefined, other: SnapshotRecord | undefined): boolean {
  return one?.diffId === other?.diffId && one?.chainId === other?.chainId
}
